"""adaptik: when does pretraining help?

Transfer learning in networks that are infinitely wide and still learn features, next to real ones.
"""

from . import activations, linear_theory, tasks
from .errors import DatasetNotFoundError, InputError, MemoryLimitError
from .estimate import Estimate
from .limits import Deep, DeepLinear, Ensemble, Linear, Reveal, TwoLayer
from .networks import Network, train
from .solution import Outcome, Solution
from .solving import solve
from .stages import Stage
from .tasks import Task

__all__ = [
    "DatasetNotFoundError",
    "Deep",
    "DeepLinear",
    "Ensemble",
    "Estimate",
    "InputError",
    "Linear",
    "MemoryLimitError",
    "Network",
    "Outcome",
    "Reveal",
    "Solution",
    "Stage",
    "Task",
    "TwoLayer",
    "activations",
    "linear_theory",
    "solve",
    "tasks",
    "train",
]
