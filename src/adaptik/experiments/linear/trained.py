"""Finite linear networks, trained on finite samples, at points of the closed forms' figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ...linear_theory.diagram import Diagram
from ...networks import Network, train
from ...solution import Solution
from ...tasks import Task
from ...tasks.stages import Stage, target_stage


def losses(
    diagram: Diagram,
    points: Sequence[tuple[float, float]],
    *,
    width: int,
    draws: int,
    seed: int,
) -> Float[np.ndarray, "points draws"]:
    """Target losses of one network for every draw of weights, teachers and samples.

    Abundant source data are D inputs with ``X^T X = D I``, which have the population's loss. The
    richness of a stage is gamma_1/sqrt(D) (theory section 3.1). NaN where the source samples are
    about as many as dimensions: gradient flow does not end there.
    """
    dimension = diagram.dimension
    found = np.full((len(points), draws), np.nan)
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        directions = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        sources: dict[tuple[float, float], Solution] = {}
        for i, point in enumerate(points):
            at = diagram.at(*point)
            gamma, nu = at["richness"], at["nu_source"]
            if 0.8 < nu < 1.25:
                continue
            if (gamma, nu) not in sources:
                X = (
                    np.sqrt(dimension) * directions
                    if np.isinf(nu)
                    else rng.standard_normal((round(nu * dimension), dimension))
                )
                task = Task(X, X @ directions[0], name="source")
                stage = Stage(task, gamma / np.sqrt(dimension))
                sources[gamma, nu] = _train([stage], width, draw, None)
            alpha = at["alignment"]
            teacher = alpha * directions[0] + np.sqrt(1 - alpha**2) * directions[1]
            X, X_test = (
                rng.standard_normal((n, dimension))
                for n in (round(at["nu_target"] * dimension), 1000)
            )
            target = Task(X, X @ teacher, X_test, X_test @ teacher, name="target")
            stage = target_stage(target, "readout", head=diagram.head)
            end = _train([stage], width, draw, sources[gamma, nu])
            found[i, draw] = float(end.loss(target))
    return found


def _train(stages: list[Stage], width: int, draw: int, after: Any) -> Solution:
    network = Network(width, "linear", tol=3e-3)
    return train(stages, network, seeds=[draw], record=2, after=after)
