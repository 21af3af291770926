"""Posteriors of infinite width against sampled networks, in every layer.

    ADAPTIK_DATA=... python benchmarks/posterior.py [depth] [activation] [width] [images | teachers]

images: Fashion-MNIST classes 0 and 1, 50 training inputs, richness 0.5. With one hidden layer
(depth 1) a second stage follows: classes 8 and 9, 50 training inputs, elastic coupling 1.
teachers: a linear pair of overlap 0.7 in 20 dimensions, 12 and 8 training inputs, richness 1.
Temperature 0.02. "of replicates" and "of chains" are relative differences between two of them.
"""

import sys
from dataclasses import replace

import numpy as np

import adaptik as ak

TEMPERATURE = 0.02


def stages_of(data: str, depth: int) -> list[ak.Stage]:
    if data == "images":
        richness, options = 0.5, dict(n_train=50, n_test=200)
        pairs = ((0, 1), (8, 9))
        tasks = [ak.tasks.load("fashion-mnist", classes=pair, **options) for pair in pairs]
    else:
        richness = 1.0
        options = dict(n_source=12, n_target=8, dimension=20, n_test=200)
        tasks = ak.tasks.linear_pair(0.7, **options)
    source, target = (ak.Stage(task, richness) for task in tasks)
    return [source, replace(target, elastic=1.0)] if depth == 1 else [source]


def distance(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def cosine(a, b):
    return float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))


def main(depth: int = 2, activation: str = "tanh", width: int = 1000, data: str = "images"):
    stages = stages_of(data, depth)
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
        print("| quantity | cosine | difference | ratio of norms | of replicates | of chains |")
        print("|---|---|---|---|---|---|")
        for layer in range(1, depth + 1):
            K = state.layer_kernel(X, None, "feature", layer)
            M = np.asarray(sampled.layer_kernel(X, None, "feature", layer))
            row(f"kernel of layer {layer}", K, sampled.mean_kernel if layer == depth else M)
        X = stage.task.X_test
        row("predictions", state.predict(X)[..., 0], sampled.predict(X)[..., 0])


def row(name: str, replicates, chains):
    found, mean = replicates.mean(0), chains.mean(0)
    ratio = np.linalg.norm(found) / np.linalg.norm(mean)
    spreads = [100 * distance(pair[0], pair[1]) for pair in (replicates, chains)]
    print(
        f"| {name} | {cosine(found, mean):.5f} | {100 * distance(found, mean):.2f} % "
        f"| {ratio:.4f} | {spreads[0]:.2f} % | {spreads[1]:.2f} % |",
        flush=True,
    )


if __name__ == "__main__":
    given = sys.argv[1:]
    kinds = (int, str, int, str)
    main(*(kind(value) for kind, value in zip(kinds, given, strict=False)))
