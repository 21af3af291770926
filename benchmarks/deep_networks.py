"""Deep limits against wide networks: predictions and kernels of every layer after two stages.

    python benchmarks/deep_networks.py [width] [seeds]

A row a case: root-mean-square difference of predictions in joint standard errors (about 1 where
only sampling parts the two; ± 3 is what is asked) and relative to their size, its worst input, and
the relative Frobenius difference of feature (Phi) and gradient (G) kernels of every layer.
"""

import sys
import time

import numpy as np

import adaptik as ak

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.8, n_source=10, n_target=10, dimension=6, n_test=20)
STAGES = [ak.Stage(SOURCE, 1.0, duration=2.0), ak.Stage(TARGET, 1.0, duration=2.0)]
CASES = [(depth, phi) for depth in (2, 3) for phi in ("relu", "tanh")]


def main() -> None:
    width, seeds = (int(a) for a in (sys.argv[1:] + ["4096", "8"][len(sys.argv) - 1 :])[:2])
    print(f"networks of {width=}, {seeds=}")
    print("| L | activation | method | rms / s.e. | worst / s.e. | rms / size | Phi_l | G_l |")
    print("|---|---|---|---|---|---|---|---|")
    for depth, phi in CASES:
        began = time.process_time()
        limit = ak.Deep(depth, phi, replicates=8)
        theory = ak.solve(STAGES, limit, record=2)
        network = ak.train(STAGES, ak.Network(width, phi, depth, tol=3e-3), seeds=seeds, record=2)
        f = theory.predict(TARGET.X_test)
        gap = network.predict(TARGET.X_test) - f
        ratio = gap.value / gap.standard_error
        far = [
            [_apart(theory, network, kind, layer) for layer in range(1, depth + 1)]
            for kind in ("feature", "gradient")
        ]
        rms = np.sqrt(np.mean(gap.value**2))
        cells = [
            str(depth), phi, type(limit.choose(STAGES)).__name__,
            f"{rms / np.sqrt(np.mean(gap.standard_error**2)):.2f}", f"{np.abs(ratio).max():.1f}",
            f"{100 * rms / np.std(f.value):.1f} %",
            *(", ".join(f"{100 * d:.1f} %" for d in layers) for layers in far),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + f" | {time.process_time() - began:.0f} s CPU", flush=True)


def _apart(theory: ak.Solution, network: ak.Solution, kind, layer: int) -> float:
    a, b = (s.kernel(TARGET.X, kind=kind, layer=layer).value for s in (theory, network))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


if __name__ == "__main__":
    main()
