"""A state: the network at one time, able to predict. Every default of states stands here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
from jaxtyping import Float

from ..mathematics.biases import NONE
from ..system.errors import InputError
from ..tasks import Task
from ..tasks.span import Span

KernelKind = Literal["feature", "gradient", "ntk"]
KERNEL_KINDS = ("feature", "gradient", "ntk")


class Kernels(NamedTuple):
    """Kernels of hidden layers between two sets of inputs, each computed when it is asked for.

    Attributes
    ----------
    feature
        From a layer, counted from 1, to Phi_l = <phi_l phi_l>, shape ``(members, n, m)``.
    gradient
        From a layer to G_l = <g_l g_l>, shape ``(members, n, m, C, C)``.

    Examples
    --------
    >>> phi, g = np.ones((5, 3)), np.ones((5, 3, 1))  # five neurons, three inputs, one output
    >>> kernels = Kernels.averaged([phi[None]], [g[None]], rows=slice(0, 1), columns=slice(1, 3))
    >>> kernels.feature(1).shape, kernels.gradient(1).shape
    ((1, 1, 2), (1, 1, 2, 1, 1))
    """

    feature: Callable[[int], Float[np.ndarray, "members n m"]]
    gradient: Callable[[int], Float[np.ndarray, "members n m C C"]]

    @classmethod
    def averaged(
        cls,
        features: Sequence[Iterable[Float[np.ndarray, "N n_all"]]],
        gradients: Sequence[Iterable[Float[np.ndarray, "N n_all C"]]],
        rows: slice,
        columns: slice,
    ) -> "Kernels":
        """Averages over neurons of fields phi_l and g_l, given by layer and member."""

        def feature(layer: int) -> np.ndarray:
            return np.stack([a[:, rows].T @ a[:, columns] / len(a) for a in features[layer - 1]])

        def gradient(layer: int) -> np.ndarray:
            rule, each = "mnc,mpd->npcd", gradients[layer - 1]
            return np.stack(
                [np.einsum(rule, g[:, rows], g[:, columns], optimize=True) / len(g) for g in each]
            )

        return cls(feature, gradient)


class AbstractState(ABC):
    """The law of the network (limit) or its weights (network) at one time, able to predict.

    States are frozen dataclasses, registered with :func:`adaptik.system.registry.register` so that
    solutions can be stored. Four methods are theirs; kernels of every kind and shape follow.

    Attributes
    ----------
    exact
        Whether nothing was sampled: standard errors are 0 then.

    Examples
    --------
    >>> import adaptik as ak
    >>> task, _ = ak.tasks.linear_pair(0.5, n_source=4, n_target=4, dimension=5)
    >>> limit = ak.TwoLayer("relu", particles=64, replicates=3)
    >>> state = ak.solve([ak.Stage(task, richness=0.0)], limit).states[-1]
    >>> state.exact, state.hidden_layers, state.biases
    (False, 1, (0.0, 0.0))
    >>> state.predict(task.X).shape, state.preactivations(task.X).shape  # members come first
    ((3, 4, 1), (3, 64, 4))
    >>> state.kernel(task.X, None, "ntk").shape, state.ntk(task.X).shape
    ((3, 4, 4), (3, 4, 4))
    >>> state.layer_kernel(task.X, task.X[:2], "feature", layer=1).shape
    (3, 4, 2)
    >>> state.kernels(task.X, slice(0, 2), slice(2, 4)).feature(1).shape
    (3, 2, 2)
    >>> np.allclose(state.scaled(2.0).predict(task.X), 2 * state.predict(task.X))
    True
    >>> state.check_task(1, task)  # a later stage on it has a place in this state
    """

    exact: ClassVar[bool] = False

    @abstractmethod
    def predict(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members n C"]:
        """Predictions of every member."""

    @abstractmethod
    def kernels(self, X: Float[np.ndarray, "n_all D"], rows: slice, columns: slice) -> Kernels:
        """Feature and gradient kernels between ``X[rows]`` and ``X[columns]``.

        ``rows`` and ``columns`` are equal where the kernel is that of inputs with themselves. All
        inputs are given together for laws that are drawn, whose kernels have to share the draws.
        """

    @abstractmethod
    def preactivations(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members units n"]:
        """Last-layer preactivations h(x) of every particle or neuron."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same neurons with a predictor ``factor`` times as large."""

    @property
    def biases(self) -> tuple[float, float]:
        """b of hidden layers and b_r of the readout; 0 unless a state says otherwise."""
        return NONE

    @property
    def hidden_layers(self) -> int:
        """Number of hidden layers; one unless a state says otherwise."""
        return 1

    def check_task(self, i: int, task: Task) -> None:  # noqa: B027, nothing to refuse by default
        """Refuse the task of a later stage ``i`` that has no place in this state."""

    def kernel(
        self, X: Float[np.ndarray, "n D"], X2: Float[np.ndarray, "m D"] | None, kind: KernelKind
    ) -> Float[np.ndarray, "members n m ..."]:
        """Kernel of every member; multi-output gradient and NTK kernels end in axes (C, C).

        Feature and gradient kernels are those of the last hidden layer.
        """
        if kind == "ntk":
            return self.ntk(X, X2)
        return self.layer_kernel(X, X2, kind, self.hidden_layers)

    def layer_kernel(
        self,
        X: Float[np.ndarray, "n D"],
        X2: Float[np.ndarray, "m D"] | None,
        kind: Literal["feature", "gradient"],
        layer: int,
    ) -> Float[np.ndarray, "members n m ..."]:
        """Feature or gradient kernel of one hidden layer.

        Raises
        ------
        InputError
            For a layer that does not exist.
        """
        if not 1 <= layer <= self.hidden_layers:
            hidden = f"between 1 and the depth {self.hidden_layers}"
            hidden = hidden if self.hidden_layers > 1 else "1, the only hidden layer"
            raise InputError(f"layer must be {hidden}, got {layer}")
        found = self.kernels(*_together(X, X2))
        return found.feature(layer) if kind == "feature" else _one_output(found.gradient(layer))

    def ntk(
        self,
        X: Float[np.ndarray, "n D"],
        X2: Float[np.ndarray, "m D"] | None = None,
        frozen: int = 0,
    ) -> Float[np.ndarray, "members n m ..."]:
        """delta_cc' Phi_L + sum_l G_l Phi_{l-1} with Phi_0 = x.x'/D (theory section 2).

        The sum is over layers above the first ``frozen``, which are fewer than the depth. Biases
        add b^2 to every Phi_{l-1}, and b_r^2 to Phi_L.
        """
        both, rows, columns = _together(X, X2)
        found, below = self.kernels(both, rows, columns), both[rows] @ both[columns].T
        below, total = (below / both.shape[1])[None], 0.0
        hidden, readout = self.biases
        for layer in range(1, self.hidden_layers + 1):
            if layer > frozen:
                total = total + found.gradient(layer) * (below + hidden**2)[..., None, None]
            below = found.feature(layer)
        total, below = np.asarray(total), below + readout**2
        return _one_output(total + below[..., None, None] * np.eye(total.shape[-1]))


class SpanState(AbstractState):
    """Of a limit that moves in coordinates which its first solve has fixed.

    Examples
    --------
    >>> import adaptik as ak
    >>> source, target = ak.tasks.linear_pair(0.5, n_source=2, n_target=2, dimension=5)
    >>> limit = ak.TwoLayer("relu", particles=64)
    >>> solution = ak.solve([ak.Stage(source, richness=0.0)], limit)
    >>> solution.states[-1].check_task(1, source)
    >>> ak.solve([ak.Stage(target, 0.0)], limit, after=solution)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    adaptik.InputError: stage 1: ...
    """

    span: Span

    def check_task(self, i, task):
        try:
            self.span.training_points(task.X)
        except InputError as error:
            raise InputError(f"stage {i}: {error}") from None


State = TypeVar("State", bound=AbstractState)


def _together(X: np.ndarray, X2: np.ndarray | None) -> tuple[np.ndarray, slice, slice]:
    """All inputs, and which of them are rows and columns of a kernel."""
    if X2 is None:
        return X, slice(None), slice(None)
    return np.concatenate([X, X2]), slice(len(X)), slice(len(X), None)


def _one_output(full: Float[np.ndarray, "members n m C C"]) -> np.ndarray:
    """Without the axes of outputs where there is one."""
    return full[..., 0, 0] if full.shape[-1] == 1 else full
