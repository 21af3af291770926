"""Which layers to keep: target loss against the layer k up to which source features are kept.

    python benchmarks/layers.py [draws of the data] [figure.png]

Layers above k are drawn anew; those up to k are frozen or go on training. Digits 3, 5 -> 8, 9 with
three hidden layers; networks stand beside the theory on the first draw. One line a stage, then the
table: losses of the first draw (± over replicates or seeds), and over all draws the loss divided
by that of training from scratch on the same draw (± over draws).
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import adaptik as ak

DEPTH, TIME = 3, 10.0
LIMIT = ak.Ensemble(DEPTH, "relu", width=512, replicates=4, tol=3e-3)
NETWORK, SEEDS = ak.Network(768, "relu", DEPTH, tol=3e-3), 3
CASES = [(k, frozen) for frozen in (True, False) for k in range(DEPTH + 1) if k or not frozen]
Losses = dict[tuple[int, bool], np.ndarray]  # of every member


def stage(task: ak.Task, k: int, frozen: bool) -> ak.Stage:
    kept = dict(trains="readout" if k == DEPTH else k) if frozen else {}
    return ak.Stage(task, 1.0, duration=TIME, fresh_above=k, **kept)


def losses(draw: int, networks: bool) -> Losses:
    source, target = ak.tasks.load_pair(
        "digits:3,5", "digits:8,9", n_source=30, n_target=10, n_test=200, seed=draw
    )

    def run(stages, **more):
        more |= dict(record=2, observe=[target])
        if networks:
            return ak.train(stages, NETWORK, seeds=SEEDS, **more)
        return ak.solve(stages, LIMIT, key=draw, **more)

    before, found = run([ak.Stage(source, 2.0, duration=TIME)]), {}
    for k, frozen in CASES:
        after = run([stage(target, k, frozen)], after=before)
        found[k, frozen] = after.losses(target)[-1]
        kind = "networks" if networks else "theory"
        print(f"draw {draw} {kind} k={k} {frozen=} {shown(found[k, frozen])}", flush=True)
    found[0, True] = found[0, False]  # nothing is kept that could be frozen
    return found


def error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def shown(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {error(values):.3f}"


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    theory, networks = [losses(0, False)], losses(0, True)
    theory += [losses(draw, False) for draw in range(1, draws)]
    print("| k | frozen: theory | networks | on draws | training: theory | networks | on draws |")
    print("|---|---|---|---|---|---|---|")
    for k in range(DEPTH + 1):
        cells = [str(k)]
        for frozen in (True, False):
            ratios = [one[k, frozen].mean() / one[0, frozen].mean() for one in theory]
            rows = (theory[0][k, frozen], networks[k, frozen], np.array(ratios))
            cells += [shown(values) for values in rows]
        print("| " + " | ".join(cells) + " |")
    if len(sys.argv) > 2:
        draw_figure(theory[0], networks, sys.argv[2])


def draw_figure(theory: Losses, networks: Losses, path: str) -> None:
    axes = Figure(figsize=(5, 3.6), layout="constrained").add_subplot()
    ks = range(DEPTH + 1)
    for frozen, colour, label in (
        (True, "#0072B2", "frozen"),
        (False, "#D55E00", "go on training"),
    ):
        for found, style, kind in ((theory, "-", "theory"), (networks, "o", "networks")):
            rows = [found[k, frozen] for k in ks]
            axes.errorbar(
                ks, [row.mean() for row in rows], [error(row) for row in rows], fmt=style,
                color=colour, label=f"kept layers {label}, {kind}",
            )  # fmt: skip
    axes.set(xlabel="layers kept (0: from scratch)", ylabel="target test loss", xticks=ks)
    axes.legend(frameon=False, fontsize=8)
    axes.figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
