"""The question "does pretraining help?" as one computation, and one case of it."""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .comparison import run
    from .movement import richness_of
    from .options import TransferConfig
    from .point import transfer_point
    from .ranking import Ranking, rank
    from .study import TransferStudy

__all__ = [
    "Ranking",
    "TransferConfig",
    "TransferStudy",
    "rank",
    "richness_of",
    "run",
    "transfer_point",
]

# The command line reads the options of a study before anything slow is imported.
_HOMES = {
    "Ranking": "ranking",
    "TransferConfig": "options",
    "TransferStudy": "study",
    "rank": "ranking",
    "richness_of": "movement",
    "run": "comparison",
    "transfer_point": "point",
}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
