"""Scalars that summarise a solution: alignment of kernels with labels, gain, forgetting."""

import numpy as np
from jaxtyping import Float

from ..tasks import Task
from .estimate import Estimate
from .solution import Solution
from .state import KernelKind


def centred_alignment(
    kernel: Float[np.ndarray, "*members n n"], labels: Float[np.ndarray, "n C"]
) -> Float[np.ndarray, "*members"]:
    """Centred kernel alignment (CKA) of a kernel with ``labels labels^T``: 1 is a perfect match.

    Examples
    --------
    >>> y = np.array([[1.0], [-1.0]])
    >>> round(float(centred_alignment(y @ y.T, y)), 6)
    1.0
    """
    n = len(labels)
    centring = np.eye(n) - 1 / n
    centred = centring @ kernel @ centring
    target = centring @ (labels @ labels.T) @ centring
    overlap = np.sum(centred * target, axis=(-2, -1))
    size = np.sqrt(np.sum(centred**2, axis=(-2, -1)) * np.sum(target**2))
    return overlap / size


def alignment(
    solution: Solution,
    task: Task,
    *,
    kind: KernelKind = "feature",
    split: str = "test",
    stage: int = -1,
    at_most: int = 200,
) -> Estimate:
    """Alignment of the adaptive kernel with the labels of ``task``, on ``at_most`` samples.

    Examples
    --------
    >>> import adaptik as ak
    >>> source, target = ak.tasks.linear_pair(0.9, n_source=8, n_target=4, dimension=10)
    >>> solution = ak.solve([ak.Stage(source, richness=0.0)], ak.TwoLayer("relu", particles=64))
    >>> found = alignment(solution, target, split="train")
    >>> bool(0 < found.value < 1), bool(found.standard_error < 0.2)
    (True, True)
    """
    X, y = task.split(split)
    kernel = solution.state(stage).kernel(X[:at_most], None, kind)
    if kernel.ndim == 5:
        kernel = np.einsum("rnmcc->rnm", kernel) / kernel.shape[-1]
    return solution.estimate(centred_alignment(kernel, y[:at_most]))


def forgetting(solution: Solution, task: Task, *, before: int = 0, after: int = -1) -> Estimate:
    """Rise of the test loss on ``task`` between the ends of two stages, paired over members.

    Examples
    --------
    >>> import adaptik as ak
    >>> counts = dict(n_source=8, n_target=4, dimension=10, n_test=20)
    >>> source, target = ak.tasks.linear_pair(-0.9, **counts)
    >>> stages = [ak.Stage(source, richness=0.0), ak.Stage(target, richness=0.0, head="kept")]
    >>> solution = ak.solve(stages, ak.TwoLayer("relu", particles=64))
    >>> bool(forgetting(solution, source).value > 0)  # the teachers are nearly opposite
    True
    """
    rise = solution.losses(task, stage=after)[-1] - solution.losses(task, stage=before)[-1]
    return solution.estimate(rise)


def transfer_gain(pretrained: Estimate, scratch: Estimate) -> Estimate:
    """1 - loss(pretrained)/loss(scratch), error propagated to first order.

    Examples
    --------
    >>> transfer_gain(Estimate(0.5, 0.0), Estimate(1.0, 0.1))
    0.5 ± 0.05
    """
    ratio = pretrained.value / scratch.value
    error = np.hypot(pretrained.standard_error, ratio * scratch.standard_error) / scratch.value
    return Estimate(1 - ratio, error)
