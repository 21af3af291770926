"""Why richer features lower the loss of figure 2a and not that of images without a ridge.

    python benchmarks/ridge_and_gain.py

Linear theory beside simulations: white inputs without noise (figure 2a) and a power law of
variances with labels of which a third is noise, as a linear model sees images; without a ridge and
with the mean eigenvalue of the target's kernel, which is 1.
"""

import numpy as np

from adaptik import linear_theory as lt

D, N_SOURCE, DRAWS = 200, 400, 40
RICH = 16.0


def main() -> None:
    for exponent, noise in ((0.0, 0.0), (1.5, 0.5)):
        spectrum = np.arange(1.0, D + 1) ** -exponent
        spectrum *= D / spectrum.sum()
        other = np.resize([1.0, -1.0], D)
        source = unit(np.ones(D), spectrum)
        target = unit(0.7 + np.sqrt(1 - 0.7**2) * other, spectrum)
        for n_target in (40, 120):
            for ridge in (0.0, 1.0):
                case = spectrum, spectrum, source, target, N_SOURCE, n_target
                noises = dict(source_noise=noise, target_noise=noise, target_ridge=ridge)
                lazy, rich = lt.spectral_transfer_loss(*case, [0.0, RICH], **noises)
                print(
                    f"variances i^-{exponent:g}, noise {noise:g}, P2 = {n_target}, ridge {ridge:g}:"
                    f" lazy {lazy:.3f}, change at gamma_1 = {RICH:g}: {rich / lazy - 1:+.1%}, "
                    f"simulated {simulated(case, noises)}"
                )


def unit(teacher: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """The teacher with labels of variance 1."""
    return teacher / np.sqrt((spectrum * teacher**2).sum())


def simulated(case, noises) -> str:
    """The change on the same samples, with its standard error over draws."""
    lazy, rich = (
        lt.simulate(*case, g, **noises, modes=(("readout", "fresh"),), draws=DRAWS, seed=3).loss[
            :, 0
        ]
        for g in (0.0, RICH)
    )
    ratio = rich.mean() / lazy.mean()
    error = (rich - ratio * lazy).std(ddof=1) / lazy.mean() / np.sqrt(DRAWS)
    return f"{ratio - 1:+.1%} ± {error:.1%}"


if __name__ == "__main__":
    main()
