"""A state: the network at one time, able to predict."""

from abc import abstractmethod
from typing import ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float

from ..system.errors import InputError
from ..tasks import Task

KernelKind = Literal["feature", "gradient", "ntk"]
KERNEL_KINDS = ("feature", "gradient", "ntk")


class AbstractState:
    """The law of the network (limit) or its weights (network) at one time, able to predict."""

    exact: ClassVar[bool] = False  # no sampling: the standard error is 0

    @abstractmethod
    def predict(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members n C"]:
        """Predictions of every member."""

    @abstractmethod
    def kernel(
        self, X: Float[np.ndarray, "n D"], X2: Float[np.ndarray, "m D"] | None, kind: KernelKind
    ) -> Float[np.ndarray, "members n m ..."]:
        """Kernel of every member; multi-output gradient and NTK kernels end in axes (C, C)."""

    def layer_kernel(
        self,
        X: Float[np.ndarray, "n D"],
        X2: Float[np.ndarray, "m D"] | None,
        kind: KernelKind,
        layer: int,
    ) -> Float[np.ndarray, "members n m ..."]:
        """Feature or gradient kernel of one hidden layer; deep states replace it."""
        if layer != 1:
            raise InputError(f"layer must be 1, the only hidden layer, got {layer}")
        return self.kernel(X, X2, kind)

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The same neurons with a predictor ``factor`` times as large."""

    def check_task(self, i: int, task: Task) -> None:
        """Refuse the task of a later stage ``i`` that has no place in this state."""

    @abstractmethod
    def preactivations(self, X: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "members units n"]:
        """Last-layer preactivations h(x) of every particle or neuron."""
