"""Does pretraining help? Chosen on refits, answered on the test set, with its confidence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..mathematics.outcome import Outcome
from ..solution.estimate import rounded
from ..tasks import Task
from .case import Case
from .options import TransferConfig
from .stopping import Path
from .study import Row, Verdict

BOOTSTRAPS = 2000


def decided(
    cases: Sequence[Case], pair: tuple[Task, Task], config: TransferConfig, complete: bool
) -> Verdict:
    """The best case that has seen the source against the best one that has not."""
    if not complete:
        return Verdict("The study was interrupted; there is no verdict.")

    best, scratch = contest(cases, config)
    if best is None:
        return Verdict(
            "Features of a lazy source never move, and a fresh head forgets its readout: give "
            "a source richness above 0, or keep the head, to ask whether pretraining helps."
        )
    gains, gain = bootstrap_gain(best.ranked, scratch.ranked, config.seed)
    se, confidence = float(gains.std(ddof=1)), float(np.mean(gains > 0))
    helps = True if confidence >= 0.975 else False if confidence <= 0.025 else None
    rich = f"rich fine-tuning (γ₂ = {best.target_richness:g})" if best.mode == "rich" else ""
    stops = ", as is when training stops" if config.stopping == "refits" else ""
    sentence = (
        f"{answer(helps, gain, se, pair[0].name, pair[1].name)} against the best model without "
        f"pretraining, at source richness γ₁ = {best.source_richness:g} with "
        f"{rich or f'{best.mode} fine-tuning'} "
        f"(confidence that it helps: {certainty(confidence)}; chosen by "
        f"{config.folds}-fold refits on the target's training data{stops})."
    )
    where = best.source_richness, best.target_richness, best.mode
    return Verdict(sentence, helps, gain, se, confidence, *where)


def contest(cases: Sequence[Case], config: TransferConfig) -> tuple[Case | None, Case]:
    """The best cases by refits: of those that have seen the source, if any, and of those that
    have not."""

    def is_informed(case: Case) -> bool:
        """Whether anything of the source enters."""
        return bool(case.source_richness) or (case.mode != "scratch" and config.head == "kept")

    def held_out(case: Case) -> float:
        return float(np.concatenate(case.ranked.held_out).mean())

    informed = [case for case in cases if is_informed(case)]
    scratch = min((case for case in cases if not is_informed(case)), key=held_out)
    return min(informed, key=held_out, default=None), scratch


def certainty(share: float) -> str:
    """A share of the bootstrap in percent, which cannot tell 1 from nearly 1.

    Examples
    --------
    >>> certainty(0.9844), certainty(1.0), certainty(0.0)
    ('98.4 %', 'above 99.9 %', 'below 0.1 %')
    """
    if share > 0.999:
        return "above 99.9 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "below 0.1 %"


def answer(helps: bool | None, gain: float, se: float, source: str, target: str) -> str:
    """Yes or no, and by how much."""
    size = rounded(abs(gain), se, unit="%")
    if helps is None:
        return (
            f"Unclear: pretraining on {source} makes no clear difference on {target}. It changes "
            f"the test loss by {change(gain, se)}"
        )
    if helps:
        return f"Yes: pretraining on {source} helps on {target}. It lowers the test loss by {size}"
    return f"No: pretraining on {source} hurts on {target}. It raises the test loss by {size}"


def change(gain: float, se: float) -> str:
    """Of the test loss in percent, its sign always shown.

    Examples
    --------
    >>> change(0.25, 0.03), change(-0.25, 0.03)
    ('-25.0 ± 3.0 %', '+25.0 ± 3.0 %')
    """
    return ("+" if gain < 0 else "") + rounded(-gain, se, unit="%")


def bootstrap_gain(best: Case, scratch: Case, seed: int) -> tuple[np.ndarray, float]:
    """Gains of one case over another on redraws (:func:`bootstrap_losses`), and on the data."""
    losses = bootstrap_losses([best, scratch], seed)
    means = [np.mean([x.mean() for x in case.sample_losses]) for case in (best, scratch)]
    return 1 - losses[:, 0] / losses[:, 1], float(1 - means[0] / means[1])


def bootstrap_losses(cases: Sequence[Case], seed: int) -> Float[np.ndarray, "bootstraps cases"]:
    """Test losses resampled over splits, test points and the solver's replicates.

    The target's training samples are drawn anew as well, to choose where its stages stop. All
    cases that have the same samples have the same draws of them.
    """
    rng = np.random.default_rng(seed)
    splits = list(zip(*(case.paths for case in cases), strict=True))
    solver = [
        np.sqrt(np.mean([m.var(ddof=1) / len(m) for m in case.member_losses])) for case in cases
    ]
    found = np.zeros((BOOTSTRAPS, len(cases)))
    for losses in found:
        for paths in (splits[s] for s in rng.integers(len(splits), size=len(splits))):
            at, seen = (rng.random(max(n)) for n in zip(*map(_sizes, paths), strict=True))
            drawn = [_redrawn(path, at, seen) for path in paths]
            losses += np.array(drawn) / len(splits)
        losses += solver * rng.standard_normal(len(cases)) / np.sqrt(len(splits))
    return found


def _sizes(path: Path) -> tuple[int, int]:
    return path.samples.shape[1], path.held_out.shape[1]


def _redrawn(path: Path, at: Float[np.ndarray, " n"], seen: Float[np.ndarray, " P"]) -> float:
    """Mean test loss on the samples that uniform numbers name, stopped on those of ``seen``."""
    rows, trained = ((u[:n] * n).astype(int) for u, n in zip((at, seen), _sizes(path), strict=True))
    return float(path.samples[path.stopping.on(trained), rows].mean())


def folds(target: Task, folds: int, seed: int) -> list[Task]:
    """Refits of the target on all but one fold of its training data, classes balanced."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(target.n_train)
    # Classes in the order in which they appear: their names do not matter.
    _, first, of = np.unique(target.codes[shuffled], return_index=True, return_inverse=True)
    by_class = shuffled[np.argsort(first[of], kind="stable")] if target.classes else shuffled
    fold_of = np.empty(target.n_train, int)
    fold_of[by_class] = np.arange(target.n_train) % folds
    return [
        target.subset(
            np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k), f"{target.name} fold {k}"
        )
        for k in range(folds)
    ]


def notes(rows: Sequence[Row], config: TransferConfig) -> tuple[str, ...]:
    """What a reader has to know beside the numbers."""
    bad = [r for r in rows if not Outcome(r.outcome).ok]
    said = [f"{r.mode}, source richness {r.source_richness}: {r.outcome}" for r in bad]
    if any(r.network_test_loss is not None for r in rows):
        count = config.splits * config.check_seeds
        said.append(
            f"all rows share {count} networks of width {config.check_width}: their differences "
            "from the theory rise and fall together, so that several of one sign are one event"
        )
    return tuple(said)
