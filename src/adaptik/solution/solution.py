"""Solution: what solving the limit and training networks both return."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..system.registry import register
from .trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr


@register
@dataclass(frozen=True, eq=False)
class Solution(Trajectory):
    """The trajectory of one sequence of stages, with error bars from its members.

    Members are independent replicates of the particle system (limit) or seeds (networks).

    Attributes
    ----------
    kind
        ``"limit"`` or ``"network"``.
    stages, records
        The stages asked for and what happened in each.
    states
        State at the end of each stage.
    snapshots
        States at requested ``(stage, time)``.
    tasks
        Tasks whose losses and predictions were recorded, by name.
    provenance
        The model's configuration, seeds and versions that made this result.
    """

    def save(self, path) -> None:
        """Write everything to one ``.zip`` file of zarr arrays, atomically, without pickles."""
        from .archive import save

        save(self, path)

    @classmethod
    def load(cls, path) -> "Solution":
        """Read what :meth:`save` wrote."""
        from .archive import load

        return cast("Solution", load(path))

    def to_xarray(self) -> "xr.Dataset":
        """Losses, accuracies and predictions with labelled axes (:mod:`.to_xarray`)."""
        from .to_xarray import to_xarray

        return to_xarray(self)
