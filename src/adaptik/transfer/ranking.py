"""Which of several sources is best for a target?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..system.errors import InputError
from .comparison import Progress, Run
from .options import TransferConfig
from .study import TransferStudy
from .verdict import bootstrap_losses, certainty, contest


@dataclass(frozen=True)
class Ranked:
    """A source, or none, in the order of gains.

    Attributes
    ----------
    source
        Its name; ``None``: no pretraining.
    gain, gain_se
        By how much it lowers the test loss of the best model without pretraining, a fraction, and
        its bootstrap error.
    best
        Probability that it is the best of all: the part of bootstraps in which it gains most.
    mode, source_richness, target_richness
        How it is used, chosen on refits.
    """

    source: str | None
    gain: float
    gain_se: float
    best: float
    mode: str
    source_richness: float | None
    target_richness: float | None


@dataclass(frozen=True)
class Ranking:
    """Several sources of one target, best first, and the study of each in the order asked for.

    Examples
    --------
    >>> one = Ranked("a.csv", 0.2, 0.05, 0.9, "readout", 2.0, None)
    >>> ranking = Ranking("Best for b: pretraining on a.csv, with probability 90.0 %.", (one,), ())
    >>> ranking.complete, [ranked.source for ranked in ranking.ranked]
    (True, ['a.csv'])
    """

    sentence: str
    ranked: tuple[Ranked, ...]
    studies: tuple[TransferStudy, ...]

    @property
    def complete(self) -> bool:
        """Whether all sources were compared: after Ctrl-C there is no order."""
        return bool(self.ranked)


def rank(
    configs: Sequence[TransferConfig],
    progress: Progress = lambda label, done, total: None,
    interrupted: Callable[[], None] = lambda: None,
) -> Ranking:
    """Run the study of every source and compare the best way to use each.

    A source is judged by its gain over no pretraining. Which way is best is chosen on refits, as a
    study chooses. All have the same samples of the target, but for images of classes that a source
    shares with it, which are divided between them.

    Parameters
    ----------
    configs
        At least two, which differ in ``source`` and ``n_source`` alone.
    progress, interrupted
        As of :func:`adaptik.transfer.run`. After Ctrl-C there is no order.

    Raises
    ------
    InputError
        Before any computation: for fewer than two sources, the same twice or other differences,
        for richnesses at which no source can help, and as :func:`adaptik.transfer.run` does.

    Examples
    --------
    >>> from adaptik.transfer import TransferConfig, rank
    >>> few = dict(n_source=12, n_target=8, n_test=20, folds=2, check_seeds=0, particles=64)
    >>> few |= dict(richness=(0.0,), target_richness=(0.0,), head="kept")
    >>> ranking = rank([TransferConfig(source=s, **few) for s in ("digits:1,4", "digits:0,5")])
    >>> sorted(str(one.source) for one in ranking.ranked)
    ['None', 'digits:0,5', 'digits:1,4']
    >>> round(sum(one.best for one in ranking.ranked), 9)
    1.0
    """
    sources = [one.source for one in configs]
    if len(sources) < 2 or len(set(sources)) < len(sources):
        raise InputError(f"source must name two or more, each once, got {sources}")
    alike = [replace(one, source="", n_source=None) for one in configs]
    if any(one != alike[0] for one in alike):
        raise InputError("configs must differ in source and n_source alone, to be compared")
    config = configs[0]
    if config.head == "fresh" and not any(config.richness):
        raise InputError(
            "richness 0 alone with a fresh head leaves nothing of a source; give a richness above "
            "0, or keep the head"
        )
    total, before = 0, 0

    def show(label: str, done: int, _: int) -> None:
        progress(label, before + done, total)

    runs = [Run(one, show) for one in configs]
    total = sum(one.total for one in runs)
    for one in runs:
        one.go(interrupted)
        before += one.total
        if not one.complete:
            break
    studies = tuple(one.study() for one in runs if one.done)
    if not all(one.complete for one in runs):
        return Ranking("The studies were interrupted; there is no order.", (), studies)
    ranked = _ranked(runs, config.seed)
    return Ranking(_sentence(ranked, runs[0].pairs[0][1].name), ranked, studies)


def _ranked(runs: Sequence[Run], seed: int) -> tuple[Ranked, ...]:
    """By what a source gains over no pretraining on its own draw of the target's samples."""
    contests = [contest(one.cases, one.config) for one in runs]
    cases = [case.ranked for both in contests for case in both if case is not None]
    losses = bootstrap_losses(cases, seed)
    means = np.array([np.mean([x.mean() for x in case.sample_losses]) for case in cases])
    gains = np.pad(1 - losses[:, ::2] / losses[:, 1::2], [(0, 0), (0, 1)])  # none gains nothing
    gain, errors = np.append(1 - means[::2] / means[1::2], 0.0), gains.std(0, ddof=1)
    shares = np.bincount(gains.argmax(1), minlength=len(gain)) / len(gains)
    used = [*(best for best, _ in contests), contests[0][1]]
    names = [*(one.config.source for one in runs), None]
    return tuple(
        Ranked(
            names[i],
            float(gain[i]),
            float(errors[i]),
            float(shares[i]),
            used[i].mode,
            used[i].source_richness,
            used[i].target_richness,
        )
        for i in np.argsort(-gain, kind="stable")
    )


def _sentence(ranked: Sequence[Ranked], target: str) -> str:
    first = ranked[0]
    what = "no pretraining" if first.source is None else f"pretraining on {first.source}"
    return f"Best for {target}: {what}, with probability {certainty(first.best)}."
