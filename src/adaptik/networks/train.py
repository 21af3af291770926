"""train: run finite networks through a sequence of stages by gradient flow, one per seed."""

import importlib.metadata
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from ..mathematics.activations import check_finite
from ..mathematics.stepping.clock import compile_clock
from ..solution import (
    Cost,
    Outcome,
    Solution,
    StageRecord,
    record_grid,
    recorded_inputs,
    recorded_tasks,
)
from ..solution.continuing import check_continues, check_snapshots
from ..solution.units import in_own_unit, turned_back
from ..system import programs
from ..system.errors import InputError, require_integers
from ..system.memory import require
from ..tasks import Task, preactivation_scale
from ..tasks.stages import Stage, check_elastic_flow, check_sequence, in_heads
from .convolution import ConvolutionalNetwork, Windows
from .flows import flow_through
from .frozen import solve_frozen
from .mup import Member, Network, NetworkState, Run, Weights

AnyNetwork = Network | ConvolutionalNetwork
CONVOLUTION = ("patch", "stride", "pooling", "image", "padding")  # settings that dense ones lack


def train(
    stages: Sequence[Stage],
    network: AnyNetwork,
    *,
    seeds: int | Sequence[int] = 1,
    record: int = 24,
    after: Solution | None = None,
    observe: Sequence[Task] = (),
    snapshots: Sequence[tuple[int, float]] = (),
) -> Solution:
    """Train finite networks through ``stages`` by gradient flow; the result compares to a limit's.

    Weights follow d theta/dt = -gamma^2 N grad(mean loss) - lambda theta with adaptive steps.
    Stages with a frozen kernel (richness 0, or the readout alone) are solved exactly on the
    network's empirical kernel.

    Parameters
    ----------
    stages
        What is trained, in order. A stage that diverges is the last one run.
    network
        A :class:`adaptik.Network` or :class:`adaptik.ConvolutionalNetwork`: width, activation,
        precision, and depth or patches.
    seeds
        How many networks (seeds 0, 1, ...), or their seeds. Each is a member of the result.
    record
        Number of times per stage at which predictions are kept. Without a duration, those are
        kept that all seeds reached; the stage's end is always kept, at the mean of their times.
    after
        A result of the same network and seeds whose stages ran before; the returned one
        contains both.
    observe
        Further tasks to record.
    snapshots
        Pairs ``(stage, time since the stage's start)`` at which whole states are kept; those
        that a stage without a duration does not reach are left out.

    Returns
    -------
    Solution
        ``kind="network"``. Its costs are sums over seeds.

    Raises
    ------
    InputError
        For stages without a meaning, or arguments out of range.
    MemoryLimitError
        If the machine's memory would not suffice.

    Examples
    --------
    >>> task = Task([[1.0, 0.5], [-0.5, 1.0]], [-1, 1])
    >>> solution = train([Stage(task, richness=0.0)], Network(width=64), seeds=2)
    >>> solution.members, solution.outcome.value
    (2, 'converged')
    """
    seeds = _checked_seeds(seeds)
    _check_arguments(network, seeds, record, after)
    earlier = () if after is None else after.stages
    stages = (*earlier, *stages)
    check_sequence(stages)
    through = in_heads(stages)
    check_snapshots(stages, len(earlier), snapshots)
    model, windows = network.describe(), None
    if isinstance(network, ConvolutionalNetwork):
        network = network.fitted(stages[0].task.dimension)
        windows = network.windows
    for i, stage in enumerate(stages):
        _check_stage(i, stage, network)
    tasks = recorded_tasks(stages, [*(after.tasks.values() if after else ()), *observe])
    _require_memory(network, stages[0].task.dimension, through[len(earlier) :], len(seeds))
    sizes = network.scale * preactivation_scale(tasks.values())
    check_finite(network.phi, sizes, network.depth, network.dtype)
    programs.keep()
    records = list(after.records) if after else []
    states = list(after.states) if after else []
    kept = dict(after.snapshots) if after else {}
    members: Sequence[Member | None] = _last_members(after) or [None] * len(seeds)
    for i in range(len(earlier), len(stages)):
        wanted = tuple(sorted({float(t) for at, t in snapshots if at == i}))
        unit = through[i].unit
        stage = in_own_unit(through[i], unit)
        starts = [_start(network, stage, m, s, i) for s, m in zip(seeds, members, strict=True)]
        runs = [
            _run_stage(network, stage, start.scaled(1 / unit), tasks, record, wanted, windows)
            for start in starts
        ]
        records.append(turned_back(_join(runs, stage, tasks), unit).judged())
        members = [run.end.scaled(unit) for run in runs]
        states.append(NetworkState(network.phi, tuple(members), windows, network.biases))
        for t in wanted:
            if all(t in run.snapshots for run in runs):
                at_t = tuple(run.snapshots[t].scaled(unit) for run in runs)
                kept[i, t] = NetworkState(network.phi, at_t, windows, network.biases)
        if records[-1].outcome.is_lost:
            break
    provenance = {"model": model, "seeds": seeds, "versions": versions()}
    ran = stages[: len(records)]
    return Solution("network", ran, tuple(records), tuple(states), tasks, kept, provenance)


def _last_members(after: Solution | None) -> tuple[Member, ...]:
    if after is None:
        return ()
    assert isinstance(after.states[-1], NetworkState)
    return after.states[-1].members


def _checked_seeds(seeds) -> tuple[int, ...]:
    chosen = range(seeds) if isinstance(seeds, int | np.integer) else seeds
    chosen = tuple(int(s) for s in chosen)
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise InputError(f"seeds must be a number >= 1 or distinct integers >= 0, got {seeds!r}")
    return chosen


def _check_stage(i: int, stage: Stage, network: AnyNetwork) -> None:
    """Refuse what these networks do not compute."""
    stage.frozen_layers(network.depth)
    check_elastic_flow(i, stage)
    if stage.head_rate == math.inf:
        raise InputError(
            f"stage {i}: head_rate=inf is not computed for networks; use a large rate, such as 100"
        )
    if stage.elastic > 0 and network.depth > 1:
        raise InputError(
            f"stage {i}: elastic={stage.elastic:g} is for one hidden layer, network has "
            f"depth {network.depth}; use 0"
        )
    if stage.low_rank is None:
        return
    if network.depth > 1 or isinstance(network, ConvolutionalNetwork):
        raise InputError(
            f"stage {i}: rank={stage.low_rank.rank} is for one dense hidden layer, not for "
            "deeper or convolutional networks; use None"
        )
    stage.low_rank.check(stage.task.dimension, network.biases[0])


def _check_arguments(network, seeds, record, after):
    if not isinstance(network, AnyNetwork):
        raise InputError(f"network must be an adaptik.Network, got {type(network).__name__}")
    require_integers(2, record=record)
    model = dict.fromkeys(CONVOLUTION) | network.describe() | {"seeds": seeds}
    check_continues(after, "adaptik.train", model)


def _require_memory(
    network: AnyNetwork, dimension: int, stages: Sequence[Stage], seeds: int
) -> None:
    N, L, outputs = network.width, network.depth, max(s.task.outputs for s in stages)
    if isinstance(network, ConvolutionalNetwork):
        L = len(network.windows.corners)  # as many fields of a unit
        size = N * (dimension + outputs * (L if network.pooling == "none" else 1))
    else:
        size = N * (dimension + (L - 1) * N + outputs)
    bytes_each = 4 if network.dtype == "float32" else 8
    samples = max(s.task.n_train for s in stages)
    working = 16 * size * bytes_each + 6 * samples * N * L * bytes_each
    for s in (s for s in stages if s.has_fixed_kernel):
        working = max(working, 2 * 8 * size + 6 * 8 * (s.task.n_train * s.task.outputs) ** 2)
    kept = 3 * len(stages) * seeds * size * bytes_each
    require(working + kept, "this training", "use a smaller width, fewer seeds or less data")


def versions() -> dict[str, str]:
    found = {}
    for name in ("adaptik", "jax", "diffrax", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            found[name] = "unknown"
    return found


def _start(
    network: AnyNetwork, stage: Stage, before: Member | None, seed: int, index: int
) -> Member:
    """The network at the start of a stage; every stage draws from its own stream."""
    if before is not None and stage.head == "kept":
        return before
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    kept = network.depth if stage.fresh_above is None else stage.fresh_above
    hidden = () if before is None else before.weights.layers[:-1][:kept]
    if len(hidden) < network.depth:
        hidden += network.initial_hidden(stage.task.dimension, rng)[len(hidden) :]
    head = network.initial_head(stage.task.outputs, rng, stage.head_scale)
    return Member(Weights((*hidden, head)))


def _run_stage(
    network, stage: Stage, start: Member, tasks, record, snapshots, windows: Windows | None
) -> Run:
    inputs = np.concatenate([X for _, X in recorded_inputs(tasks, stage.task)])
    if windows is not None:
        stage, inputs = replace(stage, task=windows.seen(stage.task)), windows.of(inputs)
    run = solve_frozen if stage.has_fixed_kernel else flow_through
    began = time.perf_counter()
    with jax.enable_x64(True), jax.default_matmul_precision("highest"), compile_clock() as clock:
        done = run(network, stage, start, inputs, record_grid(stage.duration, record), snapshots)
    taken = time.perf_counter() - began
    compiling = min(clock.seconds, taken)
    cost = replace(done.cost, compile_seconds=compiling, run_seconds=taken - compiling)
    return replace(done, cost=cost)


def _join(runs: list[Run], stage: Stage, tasks: dict[str, Task]) -> StageRecord:
    """The seeds' runs as one record, at the times that all reached and at the end."""
    shared = set.intersection(*(set(run.times[:-1].tolist()) for run in runs))
    times = np.array(sorted(shared))
    ends = np.mean([run.times[-1] for run in runs])
    rows = [np.append(np.searchsorted(run.times[:-1], times), -1) for run in runs]
    f = np.stack([run.predictions[row] for run, row in zip(runs, rows, strict=True)], axis=1)
    predictions, first = {}, 0
    for name, X in recorded_inputs(tasks, stage.task):
        predictions[name] = f[:, :, first : first + len(X)]
        first += len(X)
    worst = Outcome.of_all(run.outcome for run in runs)
    costs = [run.cost for run in runs]
    cost = Cost(
        costs[0].method,
        sum(c.steps for c in costs),
        sum(c.rejected for c in costs),
        sum(c.compile_seconds for c in costs),
        sum(c.run_seconds for c in costs),
    )
    return StageRecord(
        np.append(times, ends),
        predictions,
        float(ends),
        float(np.mean([run.loss for run in runs])),
        float(np.mean([run.rate for run in runs])),
        worst,
        cost,
    )
