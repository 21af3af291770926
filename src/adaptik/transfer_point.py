"""One point of a transfer sweep: a source, a target, and what the target stage does."""

from typing import Any, Literal

import numpy as np

from .limits import TwoLayer
from .networks import Network, train
from .solution import Solution
from .solving import solve
from .stages import Stage, target_stage
from .tasks import accuracy, load_pair


def transfer_point(
    source: str = "digits:1,4",
    target: str = "digits:1,7",
    n_source: int | None = 200,
    n_target: int | None = 40,
    n_test: int | None = None,
    kind: Literal["classes", "numbers"] | None = None,
    mode: str = "rich",
    source_richness: float = 1.0,
    target_richness: float = 1.0,
    head: Literal["fresh", "kept"] = "fresh",
    activation: str = "relu",
    particles: int | None = None,
    replicates: int = 4,
    network_width: int = 2048,
    network_seeds: int = 0,
    split: int = 0,
    key: int = 0,
) -> dict[str, Any]:
    """Target loss of one way to use a source, by theory and, if asked for, by networks.

    Parameters
    ----------
    source, target
        Data sets as in :func:`adaptik.tasks.load_pair`.
    n_source, n_target, n_test
        Sample numbers.
    kind
        What labels of files are; by default their values decide.
    mode
        ``"scratch"`` (no source), ``"readout"``, ``"lazy"`` or ``"rich"``.
    source_richness, target_richness
        gamma of the stages; the latter counts for ``"scratch"`` and ``"rich"`` only.
    head
        ``"fresh"`` or ``"kept"`` readout on the target.
    activation, particles, replicates
        As in :class:`adaptik.TwoLayer`.
    network_width, network_seeds
        Networks trained beside the theory; none by default.
    split
        Seed of the draw of samples.
    key
        Seed of particles and networks.

    Returns
    -------
    dict
        ``loss`` and ``loss_se`` on the target's test samples, ``accuracy``, ``source_loss_before``
        and ``source_loss_after`` the target stage (NaN without a source), the target stage's
        ``duration`` and ``outcome``, ``network_loss`` and ``network_loss_se`` (NaN without
        networks).

    Raises
    ------
    InputError
        For an unknown mode, and as the stages, the limit and the loader do.

    Examples
    --------
    >>> point = transfer_point(n_source=20, n_target=10, n_test=20, mode="lazy",
    ...                        source_richness=0.0, particles=128)
    >>> point["outcome"], 0 < point["loss"] < 2
    ('converged', True)
    """
    first, second = load_pair(
        source, target, n_source=n_source, n_target=n_target, n_test=n_test, seed=split,
        kind=kind,
    )  # fmt: skip
    stages = [target_stage(second, mode, target_richness, head)]
    if mode != "scratch":
        stages.insert(0, Stage(first, source_richness))
    limit = TwoLayer(activation, particles=particles, replicates=replicates)
    theory = solve(stages, limit, key=key, record=2)
    loss = theory.loss(second)
    before = after = np.nan
    if mode != "scratch" and first.outputs == second.outputs and "test" in first.splits:
        before, after = float(theory.loss(first, stage=0)), float(theory.loss(first))
    network = network_se = np.nan
    if network_seeds:
        seeds = range(key, key + network_seeds)
        trained = train(stages, Network(network_width, activation), seeds=seeds, record=2)
        found = trained.loss(second)
        network, network_se = float(found), float(found.standard_error)
    return {
        "loss": float(loss),
        "loss_se": float(loss.standard_error),
        "accuracy": _accuracy(theory, second),
        "source_loss_before": before,
        "source_loss_after": after,
        "duration": theory.records[-1].duration,
        "outcome": theory.outcome.value,
        "network_loss": network,
        "network_loss_se": network_se,
    }


def _accuracy(solution: Solution, task) -> float:
    if not task.classes:
        return float("nan")
    f, y = solution.predictions(task)[-1], task.split("test")[1]
    return float(np.mean(accuracy(task, f, y)))
