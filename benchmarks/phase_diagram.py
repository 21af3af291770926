"""Time of phase diagrams of the linear theory.

    python benchmarks/phase_diagram.py [points]

One row a map of points x points (default 400): seconds of the first call, which compiles, and of
the second.
"""

import sys
import time

import numpy as np

from adaptik import linear_theory as lt


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    alignment = np.linspace(-1, 1, points)[:, None]
    nu = np.linspace(0.01, 1.5, points)
    richness = np.geomspace(0.1, 100, points)[:, None]
    settings = dict(nu_source=0.5, source_noise=0.2, target_noise=0.1)
    D = 200
    S = np.arange(1, D + 1.0) ** -1.0
    S *= D / S.sum()
    source, target = np.eye(D)[:2] + 0.05
    maps = {
        "transfer_gain": lambda: lt.transfer_gain(alignment, nu, 2.0, **settings),
        "boundary": lambda: lt.negative_transfer_boundary(nu, richness),
        "with a ridge": lambda: lt.regularised_transfer_loss(alignment, nu, 2.0, ridge=0.1),
        "at a time": lambda: lt.regularised_transfer_loss(alignment, nu, 2.0, time=3.0),
        f"spectral, D = {D}": lambda: lt.spectral_transfer_loss(
            S, S, source, target, 0.5 * D, nu * D, richness, source_noise=0.2
        ),
    }
    for name, draw in maps.items():
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            draw()
            seconds.append(time.perf_counter() - start)
        print(
            f"{name:18s} {points} x {points}   first {seconds[0]:6.2f} s   then {seconds[1]:6.3f} s"
        )


if __name__ == "__main__":
    main()
