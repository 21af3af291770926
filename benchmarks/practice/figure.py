"""Predicted against realised gains, with the errors of both.

    python -m benchmarks.practice.figure FILE [--half development] [--representation theory-1]

A panel for each number of target samples and mode of the MLP; colours are the target's data sets.
"""

import argparse
import csv
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import predicted
from .analysis import gains
from .pairs import HALVES, SIZES

COLOURS = {
    "fashion-mnist": "#0072B2",
    "cifar10": "#D55E00",
    "digits": "#009E73",
    "breast-cancer": "#CC79A7",
    "diabetes": "#CC79A7",
}
SCORE = "leave-one-out"


def means_and_errors(half: str, representation: str) -> dict[tuple, np.ndarray]:
    """Of the score, by target, source and samples; the error is that of the mean over draws."""
    with predicted.RESULTS.open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["half"] == half and r["score"] == SCORE]
    return {
        (r["target"], r["source"], int(r["samples"])): np.array(
            [float(r["mean"]), float(r["spread"]) / np.sqrt(predicted.DRAWS)]
        )
        for r in rows
        if r["representation"] == representation
    }


def panel(axes: Axes, half: str, representation: str, mode: str, samples: int) -> None:
    after, before = (means_and_errors(half, name) for name in (representation, "theory-0"))
    cell = gains(half, "mlp", mode, samples)
    if not cell.values.size:
        return
    for i, (target, source) in enumerate(zip(cell.targets, cell.sources, strict=True)):
        if (target, source, samples) not in after:
            continue
        x, error = after[target, source, samples] - [before[target, "-", samples][0], 0.0]
        gain, its = 100 * cell.mean[i], 100 * cell.standard_error[i]
        colour = COLOURS[target.split(":")[0]]
        axes.errorbar(x, gain, its, error, fmt="o", ms=3, lw=0.6, color=colour)
    axes.axhline(0, color="0.7", lw=0.8, zorder=0)
    axes.axvline(0, color="0.7", lw=0.8, zorder=0)
    axes.set_title({"head": "head only", "all": "all weights"}[mode] + f", {samples} samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--half", default="development", choices=HALVES)
    parser.add_argument("--representation", default="theory-1")
    asked = parser.parse_args()
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplots(2, len(SIZES), squeeze=False)
    for (row, mode), (column, samples) in product(enumerate(("head", "all")), enumerate(SIZES)):
        panel(axes[row, column], asked.half, asked.representation, mode, samples)
    shown = {t.split(":")[0] for t in gains(asked.half, "mlp", "head", SIZES[0]).targets}
    known = {key[0].split(":")[0] for key in means_and_errors(asked.half, asked.representation)}
    for name in sorted(shown & known):
        axes[0, 0].plot([], [], "o", ms=3, color=COLOURS[name], label=name)
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    figure.supxlabel("predicted: leave-one-out loss saved by the source's features")
    figure.supylabel("realised: accuracy gained over scratch (%)")
    figure.savefig(asked.file, dpi=110)


if __name__ == "__main__":
    main()
