"""From two data sets to the linear theory's prediction of the target's learning curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..solution.estimate import Estimate
from ..system.errors import InputError, require_integers
from ..tasks import Task
from .checked import checked
from .source_stage import Finetune, Head
from .spectral import spectral_transfer_loss

RIDGES = np.geomspace(1e-6, 1e2, 41)  # candidates, times the mean eigenvalue


@dataclass(frozen=True)
class LinearModel:
    """Linear Gaussian model ``y = x.beta + noise`` of one task, estimated from its samples.

    Attributes
    ----------
    covariance
        ``<x x^T>``, shape ``(D, D)``, not centred: the network has no bias.
    teacher
        beta by ridge regression, its ridge chosen by leave-one-out errors, shape ``(D,)``.
    noise
        Variance of the labels that no linear function explains, corrected for the degrees of
        freedom that the fit took.
    samples
        How many samples were used.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 3))
    >>> model = LinearModel.of(X, X @ [1.0, 0.0, -1.0] + 0.5 * rng.standard_normal(400))
    >>> model.samples, np.abs(model.teacher - [1.0, 0.0, -1.0]).max() < 0.1
    (400, np.True_)
    >>> abs(model.noise - 0.25) < 0.05, model.draw(rng).samples
    (True, 400)
    """

    covariance: Float[np.ndarray, "D D"]
    teacher: Float[np.ndarray, " D"]
    noise: float
    samples: int

    @classmethod
    def of(cls, X: Float[np.ndarray, "n D"], y: Float[np.ndarray, " n"]) -> "LinearModel":
        """Estimate from samples: covariance, leave-one-out ridge regression, residual variance."""
        n = len(X)
        left, singular, right = np.linalg.svd(X, full_matrices=False)
        values = singular**2 / n
        kept = values > len(values) * np.finfo(float).eps * values[0]
        left, values, right = left[:, kept], values[kept], right[kept]
        seen = left.T @ y
        share = values / (values + RIDGES[:, None] * values.mean())  # (ridges, directions)
        residual = y - (share * seen) @ left.T
        leverage = share @ (left.T**2)
        best = np.argmin(np.mean((residual / np.maximum(1 - leverage, 1e-9)) ** 2, axis=1))
        beta = right.T @ (share[best] * seen / np.sqrt(n * values))
        freedom = n - 2 * share[best].sum() + np.sum(share[best] ** 2)
        noise = float(np.sum(residual[best] ** 2) / max(freedom, 1e-9))
        return cls(X.T @ X / n, beta, noise, n)

    def draw(self, rng: np.random.Generator) -> "LinearModel":
        """The estimate that new samples from this model would give."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        X = rng.standard_normal((self.samples, len(values))) @ root.T
        noise = np.sqrt(self.noise) * rng.standard_normal(self.samples)
        return LinearModel.of(X, X @ self.teacher + noise)


@dataclass(frozen=True)
class LinearEstimate:
    """What :func:`estimate` found.

    Attributes
    ----------
    source, target
        The estimated linear models, see :class:`LinearModel`.
    alignment
        Overlap of the two teachers under the target's inputs,
        ``beta_s.S_t.beta_t / sqrt(beta_s.S_t.beta_s beta_t.S_t.beta_t)``.
    source_noise, target_noise
        Variances of what is not linear, label noise included.
    n_target
        Target sample numbers of the learning curves, shape ``(n,)``.
    loss
        Predicted target test loss after pretraining (mean squared error, noise included), ``(n,)``.
    baseline
        The same without pretraining, shape ``(n,)``.
    gain
        ``1 - loss/baseline``, shape ``(n,)``.

    Examples
    --------
    >>> import adaptik as ak
    >>> pair = ak.tasks.linear_pair(0.9, n_source=200, n_target=200, dimension=10, n_test=200)
    >>> found = ak.linear_theory.estimate(*pair, 2.0, n_target=[3, 6], bootstraps=5)
    >>> found.n_target.tolist(), (found.gain.value > 0).tolist()
    ([3.0, 6.0], [True, True])
    >>> abs(float(found.source_noise)) < 0.1, found.source.teacher.shape
    (True, (10,))
    """

    source: LinearModel
    target: LinearModel
    alignment: Estimate
    source_noise: Estimate
    target_noise: Estimate
    n_target: Float[np.ndarray, " n"]
    loss: Estimate
    baseline: Estimate
    gain: Estimate


def estimate(
    source_task: Task,
    target_task: Task,
    richness: float = 1.0,
    *,
    n_source: int | None = None,
    n_target: Sequence[float] | None = None,
    head: Head = "fresh",
    finetune: Finetune = "readout",
    bootstraps: int = 40,
    seed: int = 0,
) -> LinearEstimate:
    """Predict from data how a linear network transfers, with bootstrap errors.

    Spectra, teachers and noise of both tasks are estimated from all their samples (training and
    test), and go into :func:`spectral_transfer_loss` (theory section 3.4).

    The assumption: source and target are Gaussian-equivalent linear models. Only second moments of
    inputs and labels matter; whatever no linear function of the inputs explains acts like
    independent label noise; samples are independent; the target stage is lazy and run to its end.
    Real labels that are not linear, and networks that are not linear, are described as well as a
    linear model describes them.

    Parameters
    ----------
    source_task, target_task
        Tasks with one output and the same inputs' dimension D. To predict a curve up to n samples,
        give a task several times as many: the estimated covariance replaces the true one.
    richness
        gamma_1 = gamma sqrt(D), gamma the richness of the source stage.
    n_source
        Source training samples; by default those of ``source_task``.
    n_target
        Sample numbers of the curve; by default 12 up to half of the target's samples.
    head, finetune
        As in :func:`spike`.
    bootstraps
        Data sets drawn from the estimated models and estimated anew (a parametric bootstrap): their
        spread is the standard error, and their mean shift, the bias, is subtracted.
    seed
        Fixes the bootstrap.

    Returns
    -------
    LinearEstimate
        Estimated models and learning curves with standard errors.

    Raises
    ------
    InputError
        For several outputs, unequal dimensions, too few samples or sample numbers below 1.

    Examples
    --------
    >>> import adaptik as ak
    >>> pair = ak.tasks.linear_pair(0.8, n_source=200, n_target=200, dimension=10, n_test=200)
    >>> found = ak.linear_theory.estimate(*pair, 2.0, n_target=[3, 6], bootstraps=5)
    >>> abs(float(found.alignment) - 0.8) < 0.05, found.loss.value.shape
    (True, (2,))
    """
    samples = [_samples(task) for task in (source_task, target_task)]
    if source_task.dimension != target_task.dimension:
        raise InputError(
            f"source_task has {source_task.dimension} input dimensions and target_task "
            f"{target_task.dimension}; give both the same inputs"
        )
    require_integers(2, bootstraps=bootstraps)
    count = len(samples[1][0])
    n1 = source_task.n_train if n_source is None else n_source
    n2 = np.geomspace(2, max(count / 2, 3), 12).round() if n_target is None else n_target
    n2 = checked(dict(n_source=n1, n_target=n2, richness=richness))["n_target"]
    if n2.ndim != 1 or n2.max() > count / 2:
        raise InputError(
            f"n_target must be a list of numbers up to {count / 2:g}, half of the target's {count} "
            "samples: beyond it the estimated covariance is too noisy"
        )

    def predict(source: LinearModel, target: LinearModel) -> list[np.ndarray]:
        data = (source.covariance, target.covariance, source.teacher, target.teacher)
        noise: dict[str, Any] = dict(source_noise=source.noise, target_noise=target.noise)
        loss = target.noise + spectral_transfer_loss(
            *data, n1, n2, richness, head=head, finetune=finetune, **noise
        )
        scratch = target.noise + spectral_transfer_loss(*data, n1, n2, 0.0, **noise)
        S = target.covariance
        size = np.sqrt(
            (source.teacher @ S @ source.teacher) * (target.teacher @ S @ target.teacher)
        )
        alignment = source.teacher @ S @ target.teacher / size if size > 0 else 0.0
        values = (alignment, source.noise, target.noise, loss, scratch, 1 - loss / scratch)
        return [np.asarray(value) for value in values]

    models = [LinearModel.of(*pair) for pair in samples]
    first = predict(*models)
    rng = np.random.default_rng(seed)
    drawn = [predict(*(model.draw(rng) for model in models)) for _ in range(bootstraps)]
    results = [
        Estimate(2 * value - np.mean(again, axis=0), np.std(again, axis=0, ddof=1))
        for value, again in zip(first, zip(*drawn, strict=True), strict=True)
    ]
    alignment, noise1, noise2, loss, baseline, gain = results
    return LinearEstimate(models[0], models[1], alignment, noise1, noise2, n2, loss, baseline, gain)


def _samples(task: Task) -> tuple[np.ndarray, np.ndarray]:
    if task.outputs != 1:
        raise InputError(
            f"task {task.name!r} has {task.outputs} outputs; the linear theory takes one: choose "
            "two classes"
        )
    X, y = (np.concatenate([task.split(s)[i] for s in task.splits]) for i in (0, 1))
    if len(X) < 4:
        raise InputError(f"task {task.name!r} has {len(X)} samples; give at least 4")
    return X, y[:, 0]
