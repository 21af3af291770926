"""What solving and training return: states, records, the solution, on disk and with axes."""

from .record import Cost, Outcome, StageRecord, record_grid, recorded_tasks
from .solution import Solution
from .state import KERNEL_KINDS, AbstractState, KernelKind

__all__ = [
    "KERNEL_KINDS",
    "AbstractState",
    "Cost",
    "KernelKind",
    "Outcome",
    "Solution",
    "StageRecord",
    "record_grid",
    "recorded_tasks",
]
