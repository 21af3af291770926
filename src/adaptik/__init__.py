"""adaptik: when does pretraining help?

Transfer learning in networks that are infinitely wide and still learn features, next to real ones.
"""

from . import activations, linear_theory, tasks
from .errors import DatasetNotFoundError, InputError, MemoryLimitError
from .estimate import Estimate
from .limits import Bayesian, BayesianLinear, Deep, DeepLinear, Ensemble, Linear, Reveal, TwoLayer
from .networks import Network, sample_posterior, train
from .solution import Outcome, Solution
from .solving import solve
from .stages import Stage
from .tasks import Task

__all__ = [
    "Bayesian",
    "BayesianLinear",
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
    "sample_posterior",
    "solve",
    "tasks",
    "train",
]
