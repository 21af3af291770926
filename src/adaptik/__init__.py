"""adaptik: when does pretraining help?

Transfer learning in networks that are infinitely wide and still learn features, next to real ones.
"""

from importlib import import_module

from .system.errors import DatasetNotFoundError, InputError, MemoryLimitError
from .system.moved import install

TYPE_CHECKING = False  # for type checkers it is true; importing typing takes as long as all this
if TYPE_CHECKING:
    from . import linear_theory, tasks
    from .limits import (
        Bayesian,
        BayesianLinear,
        Convolutional,
        Deep,
        DeepLinear,
        Ensemble,
        Linear,
        Reveal,
        TwoLayer,
    )
    from .limits.solving import solve
    from .mathematics import activations
    from .networks import ConvolutionalNetwork, Network, sample_posterior, train
    from .solution import Outcome, Solution
    from .solution.estimate import Estimate
    from .tasks import Task
    from .tasks.low_rank import LowRank
    from .tasks.stages import Stage
    from .transfer.movement import richness_of

__all__ = [
    "Bayesian",
    "BayesianLinear",
    "Convolutional",
    "ConvolutionalNetwork",
    "DatasetNotFoundError",
    "Deep",
    "DeepLinear",
    "Ensemble",
    "Estimate",
    "InputError",
    "Linear",
    "LowRank",
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
    "richness_of",
    "sample_posterior",
    "solve",
    "tasks",
    "train",
]

install()

# JAX takes seconds to import: names are looked up when they are first used (PEP 562).
_HOMES = {
    "limits": (
        "Bayesian",
        "BayesianLinear",
        "Convolutional",
        "Deep",
        "DeepLinear",
        "Ensemble",
        "Linear",
        "Reveal",
        "TwoLayer",
    ),
    "networks": ("ConvolutionalNetwork", "Network", "sample_posterior", "train"),
    "limits.solving": ("solve",),
    "solution": ("Outcome", "Solution"),
    "solution.estimate": ("Estimate",),
    "tasks": ("Task",),
    "tasks.low_rank": ("LowRank",),
    "tasks.stages": ("Stage",),
    "transfer.movement": ("richness_of",),
}


def __getattr__(name: str):
    from importlib.util import find_spec

    for module, names in _HOMES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f".{module}", __name__), name)
            return found
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
