"""Estimators of one task, and what transfer builds on."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..kernels.regression import GramRegression
from ..limits import TwoLayer
from ..limits.solving import solve
from ..solution import Outcome, Solution
from ..system.errors import InputError
from ..tasks import LabelScale, Task, standardise_labels
from ..tasks.stages import Stage

RICHNESSES = (0.0, 0.5, 2.0, 5.0)  # tried by richness="auto"


@dataclass(eq=False, repr=False)
class AdaptiveKernel(BaseEstimator, ABC):
    """What all estimators share; the network has one hidden layer."""

    richness: Any = "auto"
    _: KW_ONLY
    activation: Any = "relu"
    duration: float | None = None
    tol: float = 1e-3
    cv: int = 4
    particles: int | None = None
    replicates: int = 2
    random_state: Any = 0

    # What fitting sets.
    solution_: Solution | None = field(init=False)
    kernel_: Any = field(init=False)
    richness_: Any = field(init=False)
    classes_: Any = field(init=False)
    feature_names_in_: Any = field(init=False)

    def _limit(self) -> TwoLayer:
        return TwoLayer(
            self.activation, particles=self.particles, replicates=self.replicates, dtype="float64"
        )

    def _key(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # -- from data to tasks ------------------------------------------------------------------

    def _inputs(self, X) -> np.ndarray:
        scaled = (np.asarray(X, float) - self.centre_) / self.scale_
        return np.column_stack([scaled, np.ones(len(scaled))])

    def _set_scale(self, X) -> None:
        self.centre_ = X.mean(0)
        spread = float(np.sqrt(np.mean((X - self.centre_) ** 2)))
        self.scale_ = spread if spread > 0 else 1.0

    @abstractmethod
    def _task_of(self, y) -> Callable[[np.ndarray], Task | None]:
        """Codes the labels: what turns scaled inputs into a task (None: labels are constant)."""

    def _class_names(self) -> tuple[str, ...]:
        return tuple(map(str, getattr(self, "classes_", ())))

    # -- solving -----------------------------------------------------------------------------

    def _stage(self, task: Task, richness: Any, mode: str = "rich", head: str = "fresh") -> Stage:
        common: dict[str, Any] = dict(head=head, duration=self.duration)
        frozen = mode == "readout" or richness == 0
        if self.duration is None:
            tolerances = dict(loss_tol=self.tol, rate_tol=self.tol / 10)
            common |= dict(duration=np.inf) if frozen else tolerances
        if mode == "readout":
            return Stage(task, 0.0, trains="readout", **common)
        return Stage(task, richness, **common)

    def _check_outcome(self, solution: Solution) -> None:
        if solution.outcome.is_lost or solution.outcome is Outcome.OUT_OF_STEPS:
            warnings.warn(
                f"training ended with: {solution.outcome.value}; lower the richness or give a "
                "duration",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _folds(self, task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows to train and test on; of one size, so that one compiled solve serves all."""
        count = min(self.cv, task.n_train)
        label = task.codes
        splitter = KFold(count, shuffle=True, random_state=0)
        if task.classes and np.unique(label, return_counts=True)[1].min() >= count:
            splitter = StratifiedKFold(count, shuffle=True, random_state=0)
        folds = list(splitter.split(task.X, label))
        size = min(len(train) for train, _ in folds)
        return [(train[:size], test) for train, test in folds]

    def _refit_loss(self, task: Task, stage: Stage, key: int, after: Solution | None) -> float:
        """Mean squared error on held-out folds, each predicted by a fit without it."""
        errors = []
        for k, (train, test) in enumerate(self._folds(task)):
            if len(train) > 1 and (task.y[train] == task.y[train[0]]).all():
                continue
            fold = Task(task.X[train], task.y[train], name=f"fold {k}")
            stages = [replace(stage, task=fold)]
            refit = solve(stages, self._limit(), key=key, record=2, after=after)
            f = np.asarray(refit.predict(task.X[test]).value).reshape(len(test), -1)
            errors.append(np.sum((f - task.y[test]) ** 2, axis=1))
        return float(np.mean(np.concatenate(errors))) if errors else 0.0

    def _solved(self, task: Task) -> Solution:
        """Solve for ``task``, alone."""
        key, limit = self._key(), self._limit()
        self.richness_ = self.richness
        if self.richness == "auto":
            few = task.n_train < 4
            self.richness_losses_ = {
                g: 0.0 if few else self._refit_loss(task, self._stage(task, g), key, None)
                for g in RICHNESSES
            }
            self.richness_ = min(self.richness_losses_, key=self.richness_losses_.__getitem__)
        return solve([self._stage(task, self.richness_)], limit, key=key, record=2)

    # -- prediction --------------------------------------------------------------------------

    def _fit(self, X, task_of) -> None:
        self._set_scale(X)
        self._finish(task_of(self._inputs(X)))

    def _finish(self, task: Task | None) -> None:
        if task is None:  # constant labels: nothing to learn
            self.solution_, self.kernel_, self.richness_ = None, None, 0.0
            return
        self.solution_ = self._solved(task)
        self._check_outcome(self.solution_)
        self.kernel_ = np.asarray(self.solution_.kernel(task.X, task.X))

    def _output(self, X) -> np.ndarray:
        if self.solution_ is None:
            return np.zeros((len(X), 1))
        f = np.asarray(self.solution_.predict(X).value)
        return f.reshape(len(X), -1)

    def _std(self, X) -> np.ndarray:
        """Standard deviations ``(n, outputs)`` of Gaussian processes with the feature kernel.

        Each has the scale under which the training labels of its output are most probable. A
        heuristic: the network's own posterior variance vanishes with its width.
        """
        if self.solution_ is None:
            return np.zeros((len(X), 1))
        task = self.solution_.stages[-1].task
        fit = GramRegression.on((self.kernel_ + self.kernel_.T) / 2, task.y, ridge=1e-8)
        scale = np.sum(task.y * fit.dual(), axis=0) / task.n_train
        variance = np.concatenate(
            [
                fit.variance(
                    np.asarray(self.solution_.kernel(x, task.X)),
                    np.diag(np.asarray(self.solution_.kernel(x))),
                )
                for x in np.array_split(X, -(-len(X) // 256))
            ]
        )
        return np.sqrt(np.maximum(scale, 0.0) * variance[:, None])

    # -- saving ------------------------------------------------------------------------------

    def _stored_params(self) -> dict[str, Any]:
        return self.get_params(deep=False)

    def save(self, path) -> None:
        """Write the fitted estimator to one file that holds no pickles; see :meth:`load`.

        A transfer estimator's source is kept as its data.
        """
        check_is_fitted(self)
        if self.solution_ is None:
            raise InputError("save: an estimator of constant labels has nothing to save")
        fitted = {
            k: v for k, v in vars(self).items() if k.endswith("_") and k not in ("solution_",)
        }
        if hasattr(self, "classes_"):
            fitted["classes_"] = self.classes_.tolist()
        if hasattr(self, "feature_names_in_"):
            fitted["feature_names_in_"] = self.feature_names_in_.tolist()
        params = self._stored_params()
        entry = {"class": type(self).__name__, "params": params, "fitted": fitted}
        stored = replace(
            self.solution_, provenance=self.solution_.provenance | {"estimator": entry}
        )
        stored.save(path)

    @staticmethod
    def load(path):
        """Read what :meth:`save` wrote: an estimator that predicts as before."""
        solution = Solution.load(path)
        provenance = dict(solution.provenance)
        entry = provenance.pop("estimator", None)
        kinds = {c.__name__: c for kind in (Regressor, Classifier) for c in kind.__subclasses__()}
        if entry is None or entry["class"] not in kinds:
            raise InputError(f"load: {str(path)!r} holds no estimator")
        estimator = kinds[entry["class"]](**entry["params"])
        vars(estimator).update(entry["fitted"])
        for name, kind in (("classes_", None), ("feature_names_in_", object)):
            if name in entry["fitted"]:
                setattr(estimator, name, np.array(entry["fitted"][name], dtype=kind))
        estimator.solution_ = replace(solution, provenance=provenance)
        return estimator


def plain(y: Any) -> np.ndarray:
    """Labels of type object that are all numbers, as numbers."""
    if y.dtype != object:
        return y
    values = np.array(y.tolist())
    return values if values.dtype.kind in "biuf" else y


class Regressor(RegressorMixin, AdaptiveKernel):
    """Labels standardised, output by output."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _task_of(self, y) -> Callable[[np.ndarray], Task | None]:
        y = np.asarray(y, float)
        self.y_ndim_ = y.ndim
        y = y.reshape(len(y), -1)
        scale = LabelScale.of(y)
        self.y_mean_, self.y_scale_ = scale.mean, scale.std
        coded = scale.standardised(y)
        if not coded.any():
            return lambda X: None
        return lambda X: Task(X, coded, name="target", label_scale=scale)

    def fit(self, X, y):
        """Learn from inputs ``(n, D)`` and real labels ``(n,)`` or ``(n, outputs)``."""
        X, y = validate_data(
            self, X, y, y_numeric=True, multi_output=True, dtype=float, ensure_min_samples=1
        )
        self._fit(X, self._task_of(y))
        return self

    def predict(self, X, return_std: bool = False):
        """Predictions in the units of the labels.

        ``return_std=True`` adds standard deviations of the same shape, each in the unit of its
        output: those of a Gaussian process whose kernel is the adaptive feature kernel, a
        heuristic.
        """
        check_is_fitted(self)
        X = self._inputs(validate_data(self, X, reset=False, dtype=float))
        f = self._shaped(self.y_mean_ + self.y_scale_ * self._output(X))
        return (f, self._shaped(self.y_scale_ * self._std(X))) if return_std else f

    def _shaped(self, values) -> np.ndarray:
        """Of every output, in the shape of the labels."""
        return values[:, 0] if self.y_ndim_ == 1 else values


class Classifier(ClassifierMixin, AdaptiveKernel):
    """Labels -1 and +1, or one-hot, centred."""

    def _task_of(self, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y has {len(self.classes_)} class; give samples of at least 2 classes"
            )
        names = tuple(map(str, self.classes_))
        coded = 2.0 * codes - 1 if len(names) == 2 else np.eye(len(names))[codes]
        return lambda X: standardise_labels(Task(X, coded, name="target", classes=names))

    def fit(self, X, y):
        """Learn from inputs ``(n, D)`` and class labels ``(n,)``."""
        X, y = validate_data(self, X, y, dtype=float)
        y = plain(y)
        check_classification_targets(y)
        self._fit(X, self._task_of(y))
        return self

    def decision_function(self, X):
        """Network outputs ``(n, classes)``, or ``(n,)`` for two classes (positive: the second)."""
        check_is_fitted(self)
        f = self._output(self._inputs(validate_data(self, X, reset=False, dtype=float)))
        return f[:, 0] if len(self.classes_) == 2 else self._label_scale().labels(f)

    def _label_scale(self) -> LabelScale:
        scale = cast(Solution, self.solution_).stages[-1].task.label_scale
        return cast(LabelScale, scale)

    def predict(self, X, return_std: bool = False):
        """Class labels; ``return_std=True`` adds the outputs' standard deviations, a heuristic.

        They have the shape of :meth:`decision_function`.
        """
        f = self.decision_function(X)
        chosen = self.classes_[(f > 0).astype(int) if f.ndim == 1 else f.argmax(1)]
        if not return_std:
            return chosen
        X = self._inputs(validate_data(self, X, reset=False, dtype=float))
        std = self._std(X)
        return chosen, (std[:, 0] if f.ndim == 1 else self._label_scale().std * std)


PARAMETERS = f"""Parameters
    ----------
    richness
        How far features move: a number >= 0 (0 is the lazy kernel exactly), or ``"auto"``, chosen
        from {RICHNESSES} by K-fold refits.
    activation
        Of the hidden layer.
    duration
        Time of gradient flow; ``None`` trains to convergence.
    tol
        Training loss of every output, in variances of its labels, at which a rich stage has
        converged.
    cv
        Folds of ``richness="auto"``.
    particles, replicates
        Of :class:`adaptik.TwoLayer`.
    random_state
        Seed or generator of the particles.

    Attributes
    ----------
    solution_
        The :class:`adaptik.Solution`; ``None`` for constant labels.
    kernel_
        Adaptive feature kernel of the training inputs, shape ``(n, n)``.
    richness_, richness_losses_
        The richness used, and the held-out losses it was chosen by.
"""


class AdaptiveKernelRegressor(Regressor):
    __doc__ = f"""Regression by an infinitely wide network that learns features.

    {PARAMETERS}
    Examples
    --------
    >>> X, y = np.arange(10.0)[:, None], np.arange(10.0)
    >>> model = AdaptiveKernelRegressor(richness=0.0, particles=64).fit(X, y)
    >>> model.predict([[4.0]]).round(3).tolist()
    [4.0]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{{folder}}/model.zip")
    ...     again = AdaptiveKernelRegressor.load(f"{{folder}}/model.zip")
    >>> bool(again.predict([[4.0]]) == model.predict([[4.0]]))
    True
    """


class AdaptiveKernelClassifier(Classifier):
    __doc__ = f"""Classification by an infinitely wide network that learns features.

    {PARAMETERS}
    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["a", "a", "b", "b"]
    >>> model = AdaptiveKernelClassifier(richness=0.0, particles=64).fit(X, y)
    >>> model.predict([[2.5]]).tolist(), bool(model.decision_function([[2.5]])[0] > 0)
    (['b'], True)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{{folder}}/model.zip")
    ...     again = AdaptiveKernelClassifier.load(f"{{folder}}/model.zip")
    >>> again.predict([[2.5]]).tolist()
    ['b']
    """
