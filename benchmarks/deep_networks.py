"""Deep limits against networks of growing width: predictions and kernels of every layer.

    python benchmarks/deep_networks.py FOLDER [seeds] [width ...]

Two stages, source richness 2 and target richness 0.5. Every network that was trained is kept in
FOLDER, so that a run goes on where it stopped and the limits can be compared again; the limit has
as many replicates as there are seeds, eight at least. A row a width: root-mean-square difference of
predictions at 20 new inputs, relative to their size and in joint standard errors (about 1 where
only sampling parts the two; 3 is what is asked for), the largest single one, and the relative
Frobenius difference of the mean feature (Phi) and gradient (G) kernels of every layer. The first
row of a case is the limit: its method, its standard error relative to the size of predictions, and
by how much training has moved the kernels.
"""

import sys
import time
from pathlib import Path

import numpy as np

import adaptik as ak

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.8, n_source=10, n_target=10, dimension=6, n_test=20)
STAGES = [ak.Stage(SOURCE, 2.0, duration=2.0), ak.Stage(TARGET, 0.5, duration=2.0)]
CASES = [(depth, phi) for depth in (2, 3) for phi in ("tanh", "relu")]
WIDTH = {"tanh": 8192, "relu": 1024}  # of the limit: particles, or neurons of an ensemble
WIDTHS = (512, 1024, 2048, 4096)
Measured = dict[str, np.ndarray]  # predictions (member, n) and kernels (member, 2 L, P, P)


def measured(solution: ak.Solution, stage: int = -1, time: float | None = None) -> Measured:
    depth = solution.provenance["model"]["depth"]
    state = solution.state(stage, time)
    kernels = [
        state.layer_kernel(TARGET.X, None, kind, layer)
        for kind in ("feature", "gradient")
        for layer in range(1, depth + 1)
    ]
    return dict(f=state.predict(TARGET.X_test)[..., 0], kernels=np.stack(kernels, axis=1))


def trained(depth: int, phi: str, width: int, seeds: int, folder: Path) -> Measured:
    found = []
    for seed in range(seeds):
        path = folder / f"{depth}-{phi}-{width}-{seed}.npz"
        if not path.exists():
            network = ak.Network(width, phi, depth, tol=3e-3)
            done = measured(ak.train(STAGES, network, seeds=[seed], record=2))
            np.savez(path, **done)  # pyright: ignore[reportArgumentType]
        with np.load(path) as kept:
            found.append(dict(kept))
    return joined(found)


def joined(found: list[Measured]) -> Measured:
    return {key: np.concatenate([one[key] for one in found]) for key in found[0]}


def error(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) / np.sqrt(len(values))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def apart(one: np.ndarray, other: np.ndarray) -> str:
    """Relative differences of mean kernels, Phi_1 .. Phi_L and G_1 .. G_L."""
    a, b = one.mean(0), other.mean(0)
    gaps = [100 * np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    halves = np.split(np.array(gaps), 2)
    return " | ".join(", ".join(f"{gap:.1f}" for gap in half) + " %" for half in halves)


def row(*cells) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    folder, *numbers = sys.argv[1:]
    seeds, *widths = map(int, numbers or ["8"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    row("L", "activation", "width", "rms / size", "rms / s.e.", "worst / s.e.", "Phi_l", "G_l", "")
    row(*["---"] * 9)
    for depth, phi in CASES:
        began = time.perf_counter()
        limit = ak.Deep(depth, phi, WIDTH[phi], replicates=8)
        solutions = [
            ak.solve(STAGES, limit, key=key, record=2, snapshots=[(0, 0.0)])
            for key in range(max(1, seeds // 8))
        ]
        theory = joined([measured(solution) for solution in solutions])
        start = joined([measured(solution, 0, 0.0) for solution in solutions])
        size = float(np.std(theory["f"].mean(0)))
        row(
            depth, phi, type(limit.choose(STAGES)).__name__,
            f"± {100 * rms(error(theory['f'])) / size:.1f} %", "", "",
            "moved " + apart(theory["kernels"], start["kernels"]),
            f"{time.perf_counter() - began:.0f} s",
        )  # fmt: skip
        for width in widths or WIDTHS:
            began = time.perf_counter()
            network = trained(depth, phi, width, seeds, Path(folder))
            gap = network["f"].mean(0) - theory["f"].mean(0)
            errors = np.hypot(error(network["f"]), error(theory["f"]))
            row(
                depth, phi, width, f"{100 * rms(gap) / size:.1f} %",
                f"{rms(gap) / rms(errors):.2f}", f"{np.abs(gap / errors).max():.1f}",
                apart(network["kernels"], theory["kernels"]),
                f"{time.perf_counter() - began:.0f} s",
            )  # fmt: skip


if __name__ == "__main__":
    main()
