"""One point of a transfer sweep: a source, a target, and what the target stage does."""

from typing import Annotated, Any

import numpy as np

from ..limits import TwoLayer
from ..limits.solving import solve
from ..networks import Network, train
from ..solution import Solution
from ..solution.estimate import Estimate
from ..tasks import LabelScale, LossUnit, Task
from ..tasks.stages import Stage, target_stage
from . import options
from .case import accuracy_of, load_standardised, source_losses
from .options import Option, TransferConfig


def transfer_point(
    source: options.Source = TransferConfig.source,
    target: options.Target = TransferConfig.target,
    n_source: options.SourceSamples = TransferConfig.n_source,
    n_target: options.TargetSamples = TransferConfig.n_target,
    n_test: options.TestSamples = TransferConfig.n_test,
    kind: options.Kind = TransferConfig.kind,
    mode: str = "rich",
    source_richness: float = 1.0,
    target_richness: float = 1.0,
    head: options.Head = TransferConfig.head,
    activation: options.Activation = TransferConfig.activation,
    particles: options.Particles = TransferConfig.particles,
    replicates: options.Replicates = TransferConfig.replicates,
    network_width: Annotated[int, Option("of networks trained beside the theory", least=1)] = 2048,
    network_seeds: Annotated[int, Option("their number; 0 for none", least=0)] = 0,
    split: Annotated[int, Option("seed of the draw of samples", least=0)] = 0,
    key: Annotated[int, Option("seed of particles and networks", least=0)] = 0,
) -> dict[str, Any]:
    """Target loss of one way to use a source, by theory and, if asked for, by networks.

    Parameters
    ----------
    source, target, n_source, n_target, n_test, kind, head, activation, particles, replicates
        As in :class:`.TransferConfig`.
    mode
        ``"scratch"`` (no source), ``"readout"``, ``"lazy"`` or ``"rich"``.
    source_richness, target_richness
        gamma of the stages; the latter counts for ``"scratch"`` and ``"rich"`` only.
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
        networks). Losses are in squares of the labels as they stand in the data; each is there
        again as ``relative_...``, in variances of the training labels (for classes the same).
        ``label_mean`` and ``label_std`` of the target's outputs are what labels were centred and
        scaled by before richness acted on them (0 and 1 for two classes). ``notes`` is
        what was assumed or found while the data were read, one line each, in one text, which a
        sweep can store.

    Raises
    ------
    InputError
        For an unknown mode, a number below its least, and as the stages, the limit and the loader
        do.

    Examples
    --------
    >>> point = transfer_point(n_source=20, n_target=10, n_test=20, mode="lazy",
    ...                        source_richness=0.0, particles=128)
    >>> point["outcome"], 0 < point["loss"] < 2
    ('converged', True)
    """
    options.check(transfer_point, locals())
    counts = dict(n_source=n_source, n_target=n_target, n_test=n_test)
    first, second = load_standardised(source, target, **counts, seed=split, kind=kind)
    stages = [target_stage(second, mode, target_richness, head)]
    if mode != "scratch":
        stages.insert(0, Stage(first, source_richness))
    limit = TwoLayer(activation, particles=particles, replicates=replicates)
    theory = solve(stages, limit, key=key, record=2)
    trained = None
    if network_seeds:
        seeds = range(key, key + network_seeds)
        trained = train(stages, Network(network_width, activation), seeds=seeds, record=2)
    known = (theory, trained, None if mode == "scratch" else first, second)
    scale = second.label_scale or LabelScale(np.zeros(second.outputs), np.ones(second.outputs))
    return {
        **_losses(*known, "labels"),
        **{f"relative_{name}": value for name, value in _losses(*known, "variance").items()},
        "accuracy": accuracy_of(theory, second),
        "duration": theory.records[-1].duration,
        "outcome": theory.outcome.value,
        "label_mean": scale.mean,
        "label_std": scale.std,
        "notes": "\n".join(dict.fromkeys((*first.notes, *second.notes))),
    }


# Stores that were begun before points returned these go on without them.
transfer_point.optional_results = ("notes",)  # pyright: ignore[reportFunctionMemberAccess]


def _losses(
    theory: Solution, trained: Solution | None, source: Task | None, target: Task, unit: LossUnit
) -> dict[str, float]:
    found = theory.loss(target, unit=unit)
    network = Estimate(np.nan, np.nan) if trained is None else trained.loss(target, unit=unit)
    before, after = source_losses(theory, source, target, unit) or (np.nan, np.nan)
    return {
        "loss": float(found),
        "loss_se": float(found.standard_error),
        "source_loss_before": before,
        "source_loss_after": after,
        "network_loss": float(network),
        "network_loss_se": float(network.standard_error),
    }
