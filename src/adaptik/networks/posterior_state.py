"""Samples of a finite network's posterior: kept networks of every chain."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ..mathematics.activations import Activation
from ..solution import AbstractState, Kernels
from ..system.registry import register
from .mup import Member, NetworkState, Weights


@register
@dataclass(frozen=True, eq=False)
class PosteriorMember:
    """Networks kept of one chain, each W_0 (N, D), W_1 .., head (N, C)."""

    networks: tuple[tuple[np.ndarray, ...], ...]


@register
@dataclass(frozen=True, eq=False)
class PosteriorState(AbstractState):
    """What chains have visited.

    Attributes
    ----------
    activation
        phi.
    members
        One per chain.
    inputs, labels
        Of the stage, shapes ``(P, D)`` and ``(P, C)``.
    temperature
        T.
    mean_kernel
        Feature kernel on the inputs, averaged over all samples of each chain, ``(chains, P, P)``.
    acceptance
        Mean acceptance of trajectories.
    r_hat, effective
        The largest split R-hat and the smallest effective sample size of training predictions and
        the kernel's trace.
    """

    activation: Activation
    members: tuple[PosteriorMember, ...]
    inputs: Float[np.ndarray, "P D"]
    labels: Float[np.ndarray, "P C"]
    temperature: float
    mean_kernel: Float[np.ndarray, "chains P P"]
    acceptance: float
    r_hat: float
    effective: float

    def scaled(self, factor):
        return replace(self, labels=factor * self.labels)

    def predict(self, X):
        """Mean of the head given the hidden weights, averaged over kept networks."""

        def one(networks: NetworkState) -> np.ndarray:
            gram = networks.kernel(self.inputs, None, "feature")
            dual = np.linalg.solve(gram + self.temperature * np.eye(len(self.inputs)), self.labels)
            return networks.kernel(X, self.inputs, "feature") @ dual

        return self._averaged(one)

    @property
    def hidden_layers(self):
        return len(self.members[0].networks[0]) - 1

    def kernels(self, X, rows, columns):
        def of(networks: NetworkState) -> Kernels:
            return networks.kernels(X, rows, columns)

        return Kernels(
            lambda layer: self._averaged(lambda networks: of(networks).feature(layer)),
            lambda layer: self._averaged(lambda networks: of(networks).gradient(layer)),
        )

    def ntk(self, X, X2=None, frozen=0):
        """Averaged as a whole: layers of one network belong together."""
        return self._averaged(lambda networks: networks.ntk(X, X2, frozen))

    def preactivations(self, X):
        def together(member: PosteriorMember) -> np.ndarray:
            return np.concatenate(list(self._states(member, lambda s: s.preactivations(X)[0])))

        return np.stack([together(member) for member in self.members])

    def _states(self, member: PosteriorMember, function):
        for layers in member.networks:
            yield function(NetworkState(self.activation, (Member(Weights(layers)),)))

    def _averaged(self, function) -> np.ndarray:
        return np.stack(
            [np.mean([v[0] for v in self._states(m, function)], axis=0) for m in self.members]
        )
