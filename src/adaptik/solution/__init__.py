"""What solving and training return: states, records, the solution, on disk and with axes."""

from .record import (
    Advance,
    Cost,
    Outcome,
    Request,
    StageRecord,
    record_grid,
    recorded_inputs,
    recorded_tasks,
)
from .solution import Solution
from .state import KERNEL_KINDS, AbstractState, KernelKind, Kernels, SpanState, State

__all__ = [
    "KERNEL_KINDS",
    "AbstractState",
    "Advance",
    "Cost",
    "KernelKind",
    "Kernels",
    "Outcome",
    "Request",
    "Solution",
    "SpanState",
    "StageRecord",
    "State",
    "record_grid",
    "recorded_inputs",
    "recorded_tasks",
]
