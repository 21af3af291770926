"""What solving and training return: states, records, the solution, on disk and with axes."""

from .solution import (
    KERNEL_KINDS,
    AbstractState,
    Cost,
    KernelKind,
    Outcome,
    Solution,
    StageRecord,
    record_grid,
    recorded_tasks,
)

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
