"""How rich was a network's training? The richness at which the limit's features move as much."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ..limits import TwoLayer
from ..limits.base import AbstractLimit
from ..limits.solving import solve
from ..solution.estimate import Estimate, pseudo_values
from ..system.errors import InputError, require_between
from ..tasks import Task
from ..tasks.stages import Stage

BLOCKS = 16  # of units, left out one after the other
CLOSE = 0.02  # relative change of the richness at which the search ends
ROUNDS = 12


def movement(before: Float[np.ndarray, "n units"], after: Float[np.ndarray, "n units"]) -> Estimate:
    """How far training moved the kernel of a layer's features: |K_after - K_before|/|K_before|.

    Kernels are centred and norms are Frobenius's: neither a common scale of both arrays matters nor
    a feature that all samples share. Grows as the square of a small richness.

    Parameters
    ----------
    before, after
        Features of the same samples (rows) and units (columns) before and after training.

    Returns
    -------
    Estimate
        From products of different units, so that few units do not look like movement; with the
        standard error of a network as one draw of those that could have been initialised.

    Raises
    ------
    InputError
        For arrays that do not fit, are not finite, or have fewer than 16 units.

    Examples
    --------
    >>> F = np.random.default_rng(0).normal(size=(8, 64))
    >>> round(movement(F, 2 * F).value, 6)
    3.0
    """
    before, after = _features("before", before), _features("after", after)
    if before.shape != after.shape:
        raise InputError(
            f"after has shape {after.shape}, before {before.shape}; give features of the same "
            "samples and units"
        )
    blocks = np.array_split(np.arange(before.shape[1]), BLOCKS)
    return _estimate(
        np.stack([[F[:, b] @ F[:, b].T / len(b) for F in (before, after)] for b in blocks])
    )


def richness_of(
    before: Float[np.ndarray, "n units"],
    after: Float[np.ndarray, "n units"],
    task: Task,
    *,
    limit: AbstractLimit[Any] | None = None,
    loss_tol: float | None = None,
    largest: float = 100.0,
) -> Estimate:
    """Richness at which the infinite network's kernel moves as far as a real network's did.

    The limit is solved on ``task`` at several richness values until :func:`movement` of its last
    hidden layer's kernel is that of the two arrays, which may come from any framework.

    Parameters
    ----------
    before, after
        Last hidden layer on the training samples, rows as in ``task.X``, before and after the
        network was trained on them.
    task
        What it was trained on. Inputs are scaled to mean ``|x|^2 = D``, as for every solve.
    limit
        The infinite network; ``TwoLayer("relu")`` by default.
    loss_tol
        Training loss at which the network stopped, in mean squares of the labels; by default it
        learned all of them (:attr:`adaptik.Stage.loss_tol`).
    largest
        Richness up to which is searched.

    Returns
    -------
    Estimate
        With the standard error that the network's width, the limit's sampling and the end of the
        search leave. It does not say that the limit describes the network otherwise.

    Raises
    ------
    InputError
        For arrays that do not fit the task, or a movement that ``largest`` does not reach.

    Examples
    --------
    >>> import adaptik as ak
    >>> task = ak.tasks.load("digits", classes=(3, 5), n_train=12, n_test=10)
    >>> stage = ak.Stage(task, richness=1.0)
    >>> network = ak.train([stage], ak.Network(512), snapshots=[(0, 0.0)])
    >>> features = [np.maximum(network.preactivations(task.X, time=t)[0].T, 0) for t in (0.0, None)]
    >>> richness = ak.richness_of(*features, task, limit=ak.TwoLayer("relu", particles=256))
    >>> abs(richness.value - 1) < 0.3
    True
    """
    require_between(0, math.inf, largest=largest)
    moved = movement(before, after)
    if len(np.asarray(before)) != task.n_train:
        raise InputError(
            f"before has {len(np.asarray(before))} rows, task.X {task.n_train}; give features of "
            "the training samples"
        )
    limit = TwoLayer("relu") if limit is None else limit
    found: dict[float, Estimate] = {}

    def of(richness: float) -> Estimate:
        if richness not in found:
            found[richness] = _of_limit(task, richness, limit, loss_tol)
        return found[richness]

    goal = float(moved.value)
    if goal <= 0:  # none beyond what is sampled; it grows as the square of a small richness
        square = 0.01 / float(of(0.1).value)
        return Estimate(0.0, math.sqrt(square * float(moved.standard_error)))
    richness = _search(goal, of, largest)
    if len(found) == 1:  # the first was close; a second one for the slope
        of(1.1 * richness)
    near = sorted(found, key=lambda g: abs(math.log(g / richness)))[:2]
    first, second = (float(found[g].value) for g in near)
    slope = (second - first) / (near[1] - near[0])
    sampling = np.nan_to_num(float(found[near[0]].standard_error))
    error = math.hypot(float(moved.standard_error), sampling) / abs(slope)
    return Estimate(richness, math.hypot(error, CLOSE * richness / 2))


def _search(goal: float, of, largest: float) -> float:
    """Richness of a movement: secants between logarithms, kept inside a bracket."""
    low, high, richness = 0.0, largest, min(1.0, largest)
    exponent, before = 2.0, None
    for _ in range(ROUNDS):
        value = max(float(of(richness).value), 1e-12)
        low, high = (richness, high) if value < goal else (low, richness)
        if low == largest:
            raise InputError(
                f"after: features moved by {goal:.3g}, those of the limit by {value:.3g} at "
                f"richness {largest:g}; give a larger value of largest, or another limit"
            )
        if before is not None and before[1] != value:
            steepness = math.log(value / before[1]) / math.log(richness / before[0])
            exponent = min(max(steepness, 0.2), 2.5)
        before = richness, value
        step = richness * (goal / value) ** (1 / exponent)
        if step >= high and high == largest:
            step = largest
        elif not low < step < high:
            step = math.sqrt(max(low, high / 100) * high)
        if abs(step / richness - 1) < CLOSE:
            return step
        richness = step
    return richness


def _of_limit(task: Task, richness: float, limit: AbstractLimit[Any], loss_tol) -> Estimate:
    stage = Stage(task, richness, loss_tol=loss_tol)
    solution = solve([stage], limit, record=2, snapshots=[(0, 0.0)])
    states = solution.state(0, 0.0), solution.state(0)
    grams = np.stack([state.kernel(task.X, None, "feature") for state in states], 1)
    return _estimate(grams)


def _estimate(grams: Float[np.ndarray, "members 2 n n"]) -> Estimate:
    """Movement from independent samples of both kernels; the error is the jackknife's.

    Squares of norms are means of products of different samples, so that what was sampled does not
    count as movement.
    """
    centred = grams - grams.mean(-1, keepdims=True)
    centred -= centred.mean(-2, keepdims=True)
    first, change = centred[:, 0], centred[:, 1] - centred[:, 0]
    products = [np.einsum("iab,jab->ij", part, part) for part in (change, first)]
    everyone = np.arange(len(grams))
    subsets = [everyone] + [np.delete(everyone, i) for i in everyone if len(everyone) > 1]
    squares = np.array([[_square(p[np.ix_(s, s)]) for p in products] for s in subsets])
    results = np.sqrt(np.maximum(squares[:, 0], 0.0) / squares[:, 1])
    return Estimate.over_members(pseudo_values(results))


def _square(products: Float[np.ndarray, "members members"]) -> float:
    """Square of the mean's norm, from products between members; of one member its own."""
    n = len(products)
    return float((products.sum() - np.trace(products)) / (n * (n - 1)) if n > 1 else products[0, 0])


def _features(name: str, values) -> Float[np.ndarray, "n units"]:
    array = np.asarray(values, float)
    if array.ndim != 2 or array.shape[0] < 3 or array.shape[1] < BLOCKS:
        raise InputError(
            f"{name} must have shape (samples, units) with at least 3 samples and {BLOCKS} units, "
            f"got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or infinite values; give the features as they are")
    return array
