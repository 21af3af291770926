"""Estimators that pretrain on a source."""

import warnings
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..kernels.regression import GramRegression
from ..limits.solving import solve
from ..solution import Solution
from ..system.errors import InputError
from ..tasks import Task
from ..tasks.names import match
from . import adaptive
from .adaptive import PARAMETERS, AdaptiveKernel, Classifier, Regressor, plain

TRANSFER = """source
        A fitted adaptik estimator (trained anew together with the target's inputs), a pair
        ``(X, y)`` (trained to its end, whatever the ``duration``), or ``None``. Columns of
        DataFrames are matched with the target's by name; class names that both have keep the
        target's code.
    mode
        What the target trains: ``"readout"``, ``"lazy"`` (all weights, linearised) or ``"rich"``.
    head
        ``"fresh"``, or ``"kept"``: continue with the source's readout and predictor.
    source_richness
        Of given source data; ``"auto"`` chooses it on the target's training data, by leave-one-out
        where the kernel has not seen the target's labels (readout), else by K-fold refits.
    """


@dataclass(eq=False, repr=False)
class _Transfer(AdaptiveKernel):
    """Pretraining on a source; without one, the single-task estimator."""

    source: Any = None
    _: KW_ONLY
    mode: str = "rich"
    head: str = "fresh"
    richness: Any = "auto"
    source_richness: Any = 1.0

    def __sklearn_clone__(self):
        params = {k: v for k, v in self.get_params(deep=False).items() if k != "source"}
        copies: dict[str, Any] = {k: clone(v, safe=False) for k, v in params.items()}
        copies["source"] = self.source  # a fitted source stays fitted
        return type(self)(**copies)

    def _stored_params(self) -> dict[str, Any]:
        params = self.get_params(deep=False)
        if params["source"] is not None:
            X, y = self._source_data()
            params["source"] = (X, y if y.dtype.kind in "biuf" else y.tolist())
        return params

    def _check(self) -> None:
        for name, allowed in (("mode", ("readout", "lazy", "rich")), ("head", ("fresh", "kept"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")

    def _fit(self, X, task_of) -> None:
        self._check()
        if self.source is None:
            super()._fit(X, task_of)
            return
        X_source, y_source = self._source_data()
        if X_source.shape[1] != X.shape[1]:
            raise InputError(
                f"source has inputs of shape {X_source.shape}, the target {X.shape}; both need the "
                "same features"
            )
        self._set_scale(X_source)
        self.source_task_ = self._source_task(self._inputs(X_source), y_source)
        self._finish(task_of(self._inputs(X)))

    def _source_task(self, X, y) -> Task:
        task = type(self)()._task_of(np.asarray(y))(X)
        if task is None:
            raise InputError("source has constant labels; nothing can be learned from it")
        return replace(task, name="source").with_codes_of(self._class_names())

    def _source_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of the source on their own scale, columns in the target's order."""
        X, y, names = _source_data(self.source, isinstance(self, Classifier))
        wanted = getattr(self, "feature_names_in_", None)
        if names is not None and wanted is not None:
            return X[:, match(list(wanted), list(names), "target", "source")], y
        if (names is None) != (wanted is None):
            named, bare = ("target", "source") if names is None else ("source", "target")
            warnings.warn(
                f"{named} has feature names and {bare} has none: columns are taken by position",
                stacklevel=4,
            )
        return X, y

    def _solved(self, task: Task) -> Solution:
        if self.source is None:
            return super()._solved(task)
        key, limit = self._key(), self._limit()
        fitted = getattr(_unfrozen(self.source), "richness_", None)
        first = self.source_richness if fitted is None else fitted
        # A fitted source is trained anew as it was trained; its data as the target is, to the end.
        teacher = replace(self, duration=None) if fitted is None else _unfrozen(self.source)
        pretrained = {
            g: solve(
                [teacher._stage(self.source_task_, g)], limit, key=key, record=2, observe=[task]
            )
            for g in (adaptive.RICHNESSES[1:] if first == "auto" else (first,))
        }
        fixed = self.mode != "rich"
        target = adaptive.RICHNESSES if self.richness == "auto" and not fixed else (self.richness,)
        target = (0.0,) if fixed else target
        pairs = [(g1, g2) for g1 in pretrained for g2 in target]
        self.richness_losses_ = {}
        if len(pairs) > 1 and task.n_train >= 4:
            for g1, g2 in pairs:
                stage = self._stage(task, g2, self.mode, self.head)
                if self.mode == "readout" and self.head == "fresh" and self.duration is None:
                    # The kernel has not seen the target: leave-one-out is valid.
                    gram = np.asarray(pretrained[g1].kernel(task.X, task.X))
                    residuals = GramRegression.on((gram + gram.T) / 2, task.y).leave_one_out()
                    loss = float(np.mean(np.sum(residuals**2, axis=1)))
                else:
                    loss = self._refit_loss(task, stage, key, pretrained[g1])
                self.richness_losses_[g1, g2] = loss
            best = min(self.richness_losses_, key=self.richness_losses_.__getitem__)
        else:
            best = pairs[0]
        self.source_richness_, self.richness_ = best
        stages = [self._stage(task, self.richness_, self.mode, self.head)]
        before = pretrained[self.source_richness_]
        return solve(stages, limit, key=key, record=2, after=before)


def _unfrozen(source):
    return source.estimator if isinstance(source, FrozenEstimator) else source


Data = tuple[np.ndarray, np.ndarray, Any]  # inputs, labels, names of columns or None


def _source_data(source, classifies: bool) -> Data:
    """Inputs, labels and names of columns of a source, as it has them."""
    source = _unfrozen(source)
    if isinstance(source, tuple | list) and len(source) == 2:
        return _checked_pair(source[0], source[1], classifies)
    if not isinstance(source, AdaptiveKernel):
        raise InputError(
            "source must be a fitted adaptik estimator, a pair (X, y), or None, got "
            f"{type(source).__name__}"
        )
    check_is_fitted(source)
    if source.solution_ is None:
        raise InputError("source was fitted to constant labels; nothing can be learned from it")
    names = getattr(source, "feature_names_in_", None)
    task = source.solution_.stages[-1].task
    X = task.X[:, :-1] * source.scale_ + source.centre_
    if not isinstance(source, Regressor):
        return X, source.classes_[task.codes], names
    if classifies:
        raise InputError(
            "source was fitted to numbers, and the target has classes; give it classes"
        )
    y = source.y_mean_ + source.y_scale_ * task.y
    return X, y[:, 0] if source.y_ndim_ == 1 else y, names


def _checked_pair(X, y, classifies: bool) -> Data:
    """Source data under the checks that the target's pass."""
    form: dict[str, Any] = {} if classifies else dict(y_numeric=True, multi_output=True)
    holder = BaseEstimator()
    try:
        X, y = validate_data(holder, X, y, dtype=float, ensure_min_samples=1, **form)
        if classifies:
            y = plain(y)
            check_classification_targets(y)
    except (TypeError, ValueError) as refusal:
        raise InputError(f"source: {str(refusal).strip().splitlines()[0]}") from refusal
    return np.asarray(X), np.asarray(y), getattr(holder, "feature_names_in_", None)


class TransferKernelRegressor(Regressor, _Transfer):
    __doc__ = f"""Regression pretrained on a source.

    {PARAMETERS.replace("activation" + chr(10), TRANSFER + "activation" + chr(10), 1)}
    Examples
    --------
    >>> X, y = np.arange(6.0)[:, None], np.arange(6.0)
    >>> model = TransferKernelRegressor((X, -y), mode="lazy", source_richness=0.0, particles=64)
    >>> model.fit(X, y).predict([[2.0]]).round(2).tolist()
    [2.0]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{{folder}}/model.zip")
    ...     again = TransferKernelRegressor.load(f"{{folder}}/model.zip")
    >>> bool(again.predict([[2.0]]) == model.predict([[2.0]]))
    True
    """


class TransferKernelClassifier(Classifier, _Transfer):
    __doc__ = f"""Classification pretrained on a source.

    {PARAMETERS.replace("activation" + chr(10), TRANSFER + "activation" + chr(10), 1)}
    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "a", "b", "b"])
    >>> model = TransferKernelClassifier((X, y), mode="lazy", source_richness=0.0, particles=64)
    >>> model.fit(X[::3], y[::3]).predict([[2.5]]).tolist()
    ['b']
    >>> model.decision_function([[2.5]]).shape
    (1,)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{{folder}}/model.zip")
    ...     again = TransferKernelClassifier.load(f"{{folder}}/model.zip")
    >>> again.predict([[2.5]]).tolist()
    ['b']
    """
