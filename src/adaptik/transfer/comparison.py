"""The transfer study: does pretraining on one task help on another, and at which richness?

Every combination of source richness and target mode is solved in the infinite-width limit. When its
target stage stops and which combination the verdict is about are chosen on K-fold refits of the
target's training data, never on its test set; finite networks trained for the same times check
every row.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..kernels.lazy import two_layer
from ..limits import Ensemble, TwoLayer
from ..limits.solving import solve, versions
from ..mathematics import activations
from ..networks import Network, train
from ..solution import Solution, observables, recorded_tasks
from ..system.errors import InputError
from ..system.memory import available_bytes, require
from ..tasks import LossUnit, Task
from ..tasks.span import largest_rank
from ..tasks.stages import Stage, check_sequence
from .case import Case, accuracy_of, load_standardised, source_losses
from .evolution import WATCHED, moments
from .options import TransferConfig
from .recorded import Curve, Moment
from .stopping import Path, Stopping, expected_stop, held_out_squares, times_of
from .study import TransferStudy
from .verdict import decided, folds, notes

Progress = Callable[[str, int, int], None]
POINTS = 10  # recorded times of networks, which figures draw as points


def _path(
    solution: Solution, task: Task, stage: int, unit: LossUnit
) -> tuple[np.ndarray, np.ndarray]:
    """Test loss over the times of a stage, and its standard error."""
    values = solution.losses(task, stage=stage, unit=unit)
    members = values.shape[1]
    spread = values.std(1, ddof=1) if members > 1 else np.full(len(values), np.nan)
    return values.mean(1), spread / np.sqrt(members)


def _limit(config: TransferConfig) -> TwoLayer | Ensemble:
    # Rows compare replicates, which the exact limits of linear neurons do not have.
    if config.depth == 1:
        return TwoLayer(config.activation, particles=config.particles, replicates=config.replicates)
    return Ensemble(config.depth, config.activation, config.particles, config.replicates)


def _refuse_too_large(limit: Ensemble, stages: list[Stage]) -> None:
    """Before any computation: what one pair of stages of a deep study needs."""
    needed = limit.predicted_bytes(stages, recorded_tasks(stages, ()))
    if needed <= available_bytes():
        return
    seconds = sum(limit.predicted_seconds(stage) for stage in stages)
    rank, outputs = largest_rank([s.task for s in stages]), stages[-1].task.outputs
    width = limit.neurons(rank, outputs)
    require(
        needed,
        f"every row at depth {limit.depth} ({limit.replicates} dense networks of width {width}, "
        f"of the order of {seconds:.2g} s)",
        "take --particles 512 or less with more --replicates (the alternative, adaptik.Ensemble, "
        "averages them and gives error bars), or fewer samples",
    )


class Run:
    """The study in progress; everything finished so far can be turned into a TransferStudy."""

    def __init__(self, config: TransferConfig, progress: Progress):
        self.config, self.progress = config, progress
        self.limit = _limit(config)
        self.network = Network(config.check_width, config.activation, config.depth, tol=3e-3)
        modes = [("readout", None)] + [
            ("rich" if g > 0 else "lazy", g) for g in config.target_richness
        ]
        self.scratch = [Case("scratch", None, g) for g in config.target_richness]
        self.pretrained = {g1: [Case(m, g1, g2) for m, g2 in modes] for g1 in config.richness}
        self.curves: list[Curve] = []
        self.moments: list[Moment] = []
        self.kernels: dict[str, np.ndarray] = {}
        self.alignments: dict[str, dict[float, tuple[float, float]]] = {}
        self.complete = False
        self.pairs = [
            load_standardised(
                config.source,
                config.target,
                n_source=config.n_source,
                n_target=config.n_target,
                n_test=config.n_test,
                seed=config.seed + s,
                kind=config.kind,
            )
            for s in range(config.splits)
        ]
        source, target = self.pairs[0]
        if not target.classes:
            for case in self.cases:
                case.relative = Case(case.mode, case.source_richness, case.target_richness)
        for case in self.cases:  # refuse meaningless combinations before computing anything
            first = [] if case.mode == "scratch" else [Stage(source, case.source_richness or 0.0)]
            check_sequence([*first, case.stage(target, config.head)])
        if isinstance(self.limit, Ensemble):
            _refuse_too_large(self.limit, [Stage(source, max(config.richness)), Stage(target, 1.0)])
        if target.n_train < 2 * config.folds:
            raise InputError(
                f"folds={config.folds} needs at least {2 * config.folds} target samples"
            )
        fold_solves = config.folds * len(self.cases)
        sources = len(config.richness)
        checks = (len(self.cases) + sources) if config.check_seeds else 0
        self.total = config.splits * (len(self.cases) + sources + fold_solves + checks)
        self.done = 0

    @property
    def cases(self) -> list[Case]:
        return [*self.scratch, *(case for row in self.pretrained.values() for case in row)]

    def _tick(self, label: str):
        self.done += 1
        self.progress(label, self.done, self.total)

    def go(self, interrupted: Callable[[], None]) -> None:
        """Compute all cases; on Ctrl-C ``interrupted`` is called, and what was finished is kept."""
        try:
            self._run()
            self.complete = True
        except KeyboardInterrupt:
            interrupted()

    def _run(self) -> None:
        """Theory in this thread, and networks behind it in a second one."""
        pool, wait = ThreadPoolExecutor(max_workers=1), True
        try:
            pretrained: dict[tuple[int, float], Solution] = {}
            checks: list[Future] = []

            def check(split: int, case: Case, stages: tuple[Stage, ...]) -> None:
                if self.config.check_seeds:
                    checks.append(pool.submit(self._check, split, case, stages, pretrained))

            self._theory(check)
            for done in checks:
                done.result()
        except KeyboardInterrupt:  # what networks have not finished is not waited for
            wait = False
            raise
        finally:
            pool.shutdown(wait, cancel_futures=True)

    def _theory(self, check: Callable[[int, Case, tuple[Stage, ...]], None]) -> None:
        for split, (source, target) in enumerate(self.pairs):
            key = self.config.seed + split
            parts = folds(target, self.config.folds, key)
            # All rows record both tasks, so that scratch and rich ones run one compiled program.
            both = [source, target]
            for g1, cases in ((None, self.scratch), *self.pretrained.items()):
                pretrained = None
                if g1 is not None:
                    stage = Stage(source, g1)
                    watched = self._watched(0, stage, both)
                    pretrained = solve(
                        [stage], self.limit, key=key, observe=both, snapshots=watched
                    )
                    pretrained = self._seen(split, 0, pretrained, target, g1, None)
                    self._tick(f"source γ₁={g1:g}")
                for case in cases:
                    solution, expected = self._solve(case, both, pretrained, key)
                    solution = self._seen(split, 1, solution, target, g1, case.target_richness)
                    self._tick(f"{case.mode} γ₁={'-' if g1 is None else f'{g1:g}'}")
                    held_out = []
                    for fold in parts:
                        stage = case.stage(fold, self.config.head)
                        refit = solve([stage], self.limit, key=key, after=pretrained, observe=both)
                        held_out.append(held_out_squares(refit, fold, times_of(solution)))
                        self._tick(f"K-fold refits of {case.mode}")
                    stop = self._keep(case, solution, both, np.concatenate(held_out, 1), expected)
                    *before, last = solution.timed_stages
                    check(split, case, (*before, replace(last, duration=stop or None)))
                    if split == 0:
                        self._look(case, solution, source, target)

    def _watched(self, i: int, stage: Stage, both: list[Task]) -> list[tuple[int, float]]:
        """Snapshots of stage ``i``, where its kernel moves and memory has room for them."""
        if stage.richness == 0 or stage.trains != "all":
            return []
        needed = self.limit.predicted_bytes([stage], recorded_tasks([stage], both))
        return [(i, t) for t in WATCHED] if 2 * needed < available_bytes() else []

    def _seen(
        self, split: int, i: int, solution: Solution, target: Task, g1: float | None, g2: Any
    ) -> Solution:
        """Keep the moments of stage ``i``; the solution without the states that they came from."""
        last = solution.stages[-1]
        kept = any(at == i for at, _ in solution.snapshots)
        if split == 0 and g1 is not None and kept and last.richness > 0 and last.trains == "all":
            self.moments += moments(solution, i, target, g1, g2)
        return replace(solution, snapshots={})

    def _solve(
        self, case: Case, both: list[Task], pretrained: Solution | None, key: int
    ) -> tuple[Solution, int | None]:
        """A row of one split, and which of its times it is expected to stop at."""
        target, stage = both[1], case.stage(both[1], self.config.head)
        i = 0 if pretrained is None else 1
        watched = self._watched(i, stage, both)
        if self.config.stopping == "refits":
            watched = list({(i, 0.0), *watched})
        solution = solve(
            [stage], self.limit, key=key, after=pretrained, observe=both, snapshots=watched
        )
        if self.config.stopping == "end":
            return solution, None
        return solution, expected_stop(solution, stage, target)

    def _keep(
        self,
        case: Case,
        solution: Solution,
        both: list[Task],
        squares: np.ndarray,
        expected: int | None,
    ) -> float:
        """What a row knows of one split, held-out squares given; the time it stops at."""
        target, times = both[1], times_of(solution)
        source = solution.stages[0].task if len(solution.stages) > 1 else None
        # Of the whole target: folds count alike, whatever their labels.
        held_out = {unit: squares @ target.loss_weights(unit) for _, unit in case.units()}
        stopping = Stopping(held_out[case.units()[-1][1]], expected)
        at = stopping.stop - len(times)  # from the end, as recorded times have the start as well
        for kept, unit in case.units():
            values = solution.sample_losses(target, unit=unit)[-len(times) :]
            ways = values.mean(2), values.mean(1), held_out[unit]
            kept.paths.append(Path(times, *ways, stopping))
            if (forgotten := source_losses(solution, source, target, unit, at)) is not None:
                kept.source_losses.append(forgotten)
        if target.classes:
            case.accuracies.append(accuracy_of(solution, target, at))
        case.outcomes.append(solution.outcome)
        case.seconds += sum(r.cost.run_seconds + r.cost.compile_seconds for r in solution.records)
        return float(times[at])

    def _look(self, case: Case, solution: Solution, source: Task, target: Task) -> None:
        self._add_curves("theory", case, solution, source, target)
        if case.mode == "scratch" or case.source_richness is None:
            return
        g1 = case.source_richness
        before = self.alignments.setdefault("source kernel, target labels", {})
        if g1 not in before:
            before[g1] = _pair(observables.alignment(solution, target, stage=0))
        if case.mode == "rich":
            name = f"final kernel (γ₂={case.target_richness:g}), target labels"
            final = self.alignments.setdefault(name, {})
            final[g1] = _pair(observables.alignment(solution, target))
        order = target.by_label
        X = target.X[order]
        if "lazy" not in self.kernels:
            gram, activation = X @ X.T / target.dimension, activations.get(self.config.activation)
            for _ in range(self.config.depth):
                diagonal = np.diag(gram).copy()
                gram = two_layer(activation, diagonal, gram, diagonal)[0]
            self.kernels["lazy"] = gram
        self.kernels.setdefault(f"adapted {g1:g}", np.asarray(solution.kernel(X, stage=0)))

    def _add_curves(self, origin, case, solution, source, target):
        stages = ["source", "target"][-len(solution.stages) :]
        for i, stage in enumerate(stages):
            for name, task in (("source", source), ("target", target)):
                same = task.outputs == solution.stages[i].task.outputs
                meant = name == "target" or case.mode != "scratch"
                if task.name in solution.tasks and same and meant and "test" in task.splits:
                    loss, error = _path(solution, task, i, "labels")
                    other = (None, None) if task.classes else _path(solution, task, i, "variance")
                    self.curves.append(
                        Curve(
                            origin,
                            case.mode,
                            case.source_richness,
                            case.target_richness,
                            stage,
                            name,
                            solution.records[i].times,
                            loss,
                            error,
                            *other,
                        )
                    )

    def _check(
        self,
        split: int,
        case: Case,
        stages: tuple[Stage, ...],
        pretrained: dict[tuple[int, float], Solution],
    ) -> None:
        """Train networks for the times that the theory took; every split has networks of its own.

        The rows of a split share them: same initial weights, same source stage.
        """
        both = source, target = self.pairs[split]
        first = self.config.seed + split * self.config.check_seeds
        seeds = list(range(first, first + self.config.check_seeds))
        g1, before = case.source_richness, None
        if g1 is not None:
            if (split, g1) not in pretrained:
                pretrained[split, g1] = train(
                    stages[:1], self.network, seeds=seeds, record=POINTS, observe=both
                )
                self._tick(f"networks on source γ₁={g1:g}")
            before = pretrained[split, g1]
        network = train(
            stages[-1:], self.network, seeds=seeds, record=POINTS, after=before, observe=both
        )
        if split == 0:
            self._add_curves("network", case, network, source, target)
        for kept, unit in case.units():
            kept.network_losses.append(network.losses(target, unit=unit)[-1])
        self._tick(f"networks {case.mode}")

    def study(self) -> TransferStudy:
        kernels = {}
        verdict = decided(self.cases, self.pairs[0], self.config, self.complete)
        # Where the verdict's source is lazy its kernel never moved: show the richest one instead.
        shown = verdict.source_richness or max(self.config.richness)
        if f"adapted {shown:g}" in self.kernels:
            kernels = {"lazy": self.kernels["lazy"], "adapted": self.kernels[f"adapted {shown:g}"]}
        source, target = self.pairs[0]
        described = {
            side: dict(
                name=t.name,
                n_train=t.n_train,
                D=t.dimension,
                classes=list(t.classes),
                n_test=0 if t.X_test is None else len(t.X_test),
                label_mean=None if t.label_scale is None else t.label_scale.mean.tolist(),
                label_std=None if t.label_scale is None else t.label_scale.std.tolist(),
            )
            for side, t in (("source", source), ("target", target))
        }
        config = asdict(self.config) | {
            "kernel_richness": shown,
            "limit": self.limit.describe(),
            "versions": versions(),
        }
        rows = tuple(case.row() for case in self.cases if case.paths)
        return TransferStudy(
            config,
            rows,
            verdict,
            tuple(self.curves),
            kernels,
            self.alignments,
            described,
            (*notes(rows, self.config), *source.notes, *target.notes),
            self.complete,
            tuple(self.moments),
        )


def _pair(estimate) -> tuple[float, float]:
    return float(estimate.value), float(estimate.standard_error)


def run(
    config: TransferConfig,
    progress: Progress = lambda label, done, total: None,
    interrupted: Callable[[], None] = lambda: None,
) -> TransferStudy:
    """Run the study of ``config``; on Ctrl-C, what was finished is returned, marked incomplete.

    Parameters
    ----------
    config
        What to compare.
    progress
        Called with a label, the number of finished solves, and their total.
    interrupted
        Called when Ctrl-C ended the study early.

    Raises
    ------
    InputError
        Before any computation, for requests that cannot be met.

    Examples
    --------
    >>> from adaptik.transfer import TransferConfig
    >>> few = dict(n_source=12, n_target=8, n_test=20, folds=2, check_seeds=0, particles=64)
    >>> study = run(TransferConfig(richness=(0.0,), target_richness=(0.0,), head="kept", **few))
    >>> study.rows[0].mode, 0 < study.rows[0].test_loss < 2, study.verdict.gain is not None
    ('scratch', True, True)
    """
    one = Run(config, progress)
    one.go(interrupted)
    return one.study()
