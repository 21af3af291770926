"""Posteriors of infinite width against sampled networks, in every layer.

    ADAPTIK_DATA=... python benchmarks/posterior.py [depth] [activation] [width]

Fashion-MNIST classes 0 and 1, 50 training inputs, richness 0.5, temperature 0.02. With one hidden
layer (depth 1) a second stage follows: classes 8 and 9, 50 training inputs, elastic coupling 1.
"""

import sys

import numpy as np

import adaptik as ak

RICHNESS, TEMPERATURE = 0.5, 0.02


def distance(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def cosine(a, b):
    return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def main(depth: int = 2, activation: str = "tanh", width: int = 1000):
    options = dict(n_train=50, n_test=200)
    stages = [ak.Stage(ak.tasks.load("fashion-mnist", classes=(0, 1), **options), RICHNESS)]
    if depth == 1:
        target = ak.tasks.load("fashion-mnist", classes=(8, 9), **options)
        stages.append(ak.Stage(target, RICHNESS, elastic=1.0))
    limit = ak.Bayesian(activation, depth, TEMPERATURE, particles=4096, replicates=2)
    theory = ak.solve(stages, limit)
    networks = ak.sample_posterior(
        stages, ak.Network(width, activation, depth=depth), temperature=TEMPERATURE,
        warmup=100, samples=200, keep=20,
    )  # fmt: skip
    for i, stage in enumerate(stages):
        state, sampled, X = theory.states[i], networks.states[i], stage.task.X
        print(f"stage {i}, limit: {theory.records[i].outcome.value}, residuals {state.residual}, ")
        print(f"  networks: R-hat {sampled.r_hat:.3f}, effective samples {sampled.effective:.0f}")
        print("| quantity | cosine | relative difference | ratio of norms | between chains |")
        print("|---|---|---|---|---|")
        for layer in range(1, depth + 1):
            K = state.layer_kernel(X, None, "feature", layer).mean(0)
            M = np.asarray(sampled.layer_kernel(X, None, "feature", layer))
            row(f"kernel of layer {layer}", K, sampled.mean_kernel if layer == depth else M)
        X = stage.task.X_test
        row("predictions", state.predict(X).mean(0)[:, 0], sampled.predict(X)[..., 0])


def row(name: str, found, chains):
    mean = chains.mean(0)
    ratio = np.linalg.norm(found) / np.linalg.norm(mean)
    print(
        f"| {name} | {cosine(found, mean):.5f} | {100 * distance(found, mean):.2f} % "
        f"| {ratio:.4f} | {100 * distance(chains[0], chains[1]):.2f} % |"
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    kinds = (int, str, int)
    main(*(kind(value) for kind, value in zip(kinds, given, strict=False)))
