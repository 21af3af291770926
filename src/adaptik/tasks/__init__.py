"""Tasks: data with labels, from teachers, image data sets, files, or your own arrays."""

from .base import LossUnit, Task, accuracy, preactivation_scale, standardise_labels
from .images import DATASETS
from .label_scale import LabelScale
from .loading import load, load_pair, standardise_pair
from .stages.joint import by_output
from .teachers import Directions, MultiIndexPair, hermite_pair, linear_pair, multi_index_pair

__all__ = [
    "DATASETS",
    "Directions",
    "LabelScale",
    "LossUnit",
    "MultiIndexPair",
    "Task",
    "accuracy",
    "by_output",
    "hermite_pair",
    "linear_pair",
    "load",
    "load_pair",
    "multi_index_pair",
    "preactivation_scale",
    "standardise_labels",
    "standardise_pair",
]
