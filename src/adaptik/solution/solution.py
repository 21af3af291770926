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

    Examples
    --------
    >>> import adaptik as ak
    >>> source, target = ak.tasks.linear_pair(0.9, n_source=8, n_target=4, dimension=10, n_test=5)
    >>> stages = [ak.Stage(source, richness=0.0), ak.Stage(target, richness=0.0)]
    >>> solution = ak.solve(stages, ak.TwoLayer("relu", particles=64, replicates=3))
    >>> solution.outcome.value, solution.members
    ('converged', 3)

    Anything can be asked at any inputs, of any stage; every answer has its standard error.

    >>> solution.predict(target.X_test).value.shape
    (5,)
    >>> solution.kernel(target.X_test, kind="ntk", stage=0).value.shape
    (5, 5)
    >>> solution.preactivations(target.X_test).shape  # members, particles, inputs
    (3, 64, 5)
    >>> loss, right = solution.loss(target), solution.accuracy(target)  # the sign is the class
    >>> 0 < float(loss) < 2, 0 <= float(right) <= 1, solution.sampling_error < 1
    (True, True, True)

    Recorded over the times of a stage, by member:

    >>> times = len(solution.records[1].times)
    >>> solution.losses(target).shape == (times, 3)
    True
    >>> solution.sample_losses(target).shape[1:], solution.predictions(target).shape[1:]
    ((3, 5), (3, 5, 1))
    >>> solution.estimate(solution.losses(target)[-1]).value.shape  # mean and error over members
    ()
    >>> solution.state(stage=0) is solution.states[0]
    True
    >>> [stage.duration is not None for stage in solution.timed_stages]  # for networks, as long
    [True, True]

    In a joint stage every task has a head of its own; ``head`` names another one:

    >>> joint = ak.solve([ak.Stage([source, target], richness=0.0)], ak.TwoLayer(particles=64))
    >>> joint.heads(), joint.head_of(target)
    ({'linear source': 1, 'linear target': 1}, 'linear target')
    >>> bool(joint.loss(target).value != joint.loss(target, head=source.name).value)
    True

    On disk, and with labelled axes:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     solution.save(f"{folder}/solution.zip")
    ...     again = ak.Solution.load(f"{folder}/solution.zip")
    >>> bool(again.predict(target.X_test).value[0] == solution.predict(target.X_test).value[0])
    True
    >>> "loss" in solution.to_xarray()
    True
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
