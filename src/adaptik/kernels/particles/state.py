"""What states of particles share: predictors as sums of terms, and kernels that stay.

The derivation of the terms is in theory section 1 (heads and stages).
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
from jaxtyping import Float

from ...mathematics.activations import Activation
from ...solution import AbstractState
from ...solution.estimate import leave_one_out, pseudo_values
from ...system.registry import register
from .law import Particles, row_blocks

K = TypeVar("K")


@register
@dataclass(frozen=True, eq=False)
class ReadoutTerm:
    """coefficient * <z phi(h(x))>."""

    particles: Particles
    coefficient: float

    def scaled(self, factor: float) -> "ReadoutTerm":
        return replace(self, coefficient=factor * self.coefficient)


FrozenKind = Literal["feature", "ntk"]  # the readout moves, or all weights move lazily
Estimator = Literal["analytic", "pooled", "sampled"]


@register
@dataclass(frozen=True, eq=False)
class KernelTerm:
    """sum_mu K(x, x_mu) c_mu with a kernel frozen at some time.

    Attributes
    ----------
    kind
        ``"feature"`` (readout moves) or ``"ntk"`` (all weights move lazily).
    inputs
        The samples x_mu, shape ``(P, D)``.
    dual
        c, shape ``(replicates, P, outputs)``; for a pooled kernel the solutions on
        :func:`leave_one_out` kernels, shape ``(1 + replicates, P, outputs)``.
    estimator
        ``"analytic"``: the kernel at initialisation; ``"sampled"``: every replicate's own;
        ``"pooled"``: over replicates, the predictions being jackknife pseudo-values.
    reached
        Where the samples of a low-rank stage move weights (:meth:`.LowRank.reached`), with a
        bias in one coordinate more; ``None`` where that is along themselves.
    """

    particles: Particles
    kind: FrozenKind
    inputs: Float[np.ndarray, "P D"]
    dual: Float[np.ndarray, "duals P C"]
    estimator: Estimator
    reached: Float[np.ndarray, "P D"] | None = None

    def scaled(self, factor: float) -> "KernelTerm":
        return replace(self, dual=factor * self.dual)


@register
@dataclass(frozen=True, eq=False)
class TangentTerm:
    """<u_z phi(h) + z phi'(h) u_h>, and <u_c> b_r of a bias: a lazy stage under weight decay."""

    particles: Particles
    move_w: Float[np.ndarray, "R M rank"]
    move_z: Float[np.ndarray, "R M C"]
    move_c: Float[np.ndarray, "R M C"] | None = None

    def scaled(self, factor: float) -> "TangentTerm":
        move_c = None if self.move_c is None else factor * self.move_c
        move_w, move_z = factor * self.move_w, factor * self.move_z
        return replace(self, move_w=move_w, move_z=move_z, move_c=move_c)


Term = ReadoutTerm | KernelTerm | TangentTerm


def is_analytic(particles: Particles, kind: str) -> bool:
    """Whether a kernel follows from the Gaussian law at initialisation."""
    return particles.initial_features and (kind == "feature" or particles.initial_head)


class ParticleState(AbstractState):
    """A state of particles (w, z).

    Attributes
    ----------
    activation
        phi.
    particles
        Their law.
    terms
        The predictor f.
    bias
        b_r of the readout.
    """

    activation: Activation
    particles: Particles
    terms: tuple[Term, ...]
    bias: float = 0.0

    @property
    def heads(self) -> int:
        """Readouts of a particle for each output."""
        return 1

    @property
    def outputs(self) -> int:
        """Of the predictor."""
        return self.particles.z.shape[-1] // self.heads

    @abstractmethod
    def frozen_kernel(
        self,
        particles: Particles,
        X: Float[np.ndarray, "n D"],
        training: Float[np.ndarray, "P D"],
        kind: FrozenKind,
        estimator: Estimator,
        reached: Float[np.ndarray, "P D"] | None = None,
    ) -> np.ndarray:
        """A kernel of every replicate: (R, n, P) where outputs decouple, else (R, n, C, P, C)."""

    @abstractmethod
    def feature_sum(
        self, X: Float[np.ndarray, "P D"], dual: Float[np.ndarray, "R P C"]
    ) -> Float[np.ndarray, "R M C"]:
        """sum_mu phi(h_mu) c_mu of every particle."""

    @abstractmethod
    def together(
        self, inputs: Mapping[K, np.ndarray], evaluate: Callable[[np.ndarray], np.ndarray]
    ) -> dict[K, np.ndarray]:
        """``evaluate`` of each, in as few calls as can be; outputs (..., n, C)."""

    @abstractmethod
    def evaluate(
        self, term: ReadoutTerm | TangentTerm, X: Float[np.ndarray, "n D"]
    ) -> Float[np.ndarray, "R n C"]:
        """What a term without a kernel adds to the predictor."""

    def altered(self, **fields: Any) -> Self:
        """With other particles or terms."""
        return replace(self, **fields)  # pyright: ignore[reportArgumentType]  # all are dataclasses

    def scaled(self, factor: float) -> Self:
        return self.altered(terms=tuple(term.scaled(factor) for term in self.terms))

    def moved(self, particles: Particles, richness: float) -> Self:
        """f(t) = f(t1) + (<z phi>_t - <z phi>_{t1}) / gamma, terms at t1 merged."""
        terms, start = [], -1 / richness
        for term in self.terms:
            if isinstance(term, ReadoutTerm) and term.particles is self.particles:
                start += term.coefficient
            else:
                terms.append(term)
        if abs(start) > 1e-12 / richness:
            terms.append(ReadoutTerm(self.particles, start))
        terms.append(ReadoutTerm(particles, 1 / richness))
        return self.altered(particles=particles, terms=tuple(terms))

    def predict(self, X):
        total = np.zeros((self.particles.w.shape[0], len(X), self.outputs))
        for cut in row_blocks(len(X)):
            for term in self.terms:
                if isinstance(term, KernelTerm):
                    total[:, cut] += self.apply_kernel(term, X[cut], term.dual[None])[0]
                else:
                    total[:, cut] += self.evaluate(term, X[cut])
        return total

    def apply_kernel(
        self,
        term: KernelTerm,
        X: Float[np.ndarray, "n D"],
        duals: Float[np.ndarray, "T duals P C"],
    ) -> Float[np.ndarray, "T R n C"]:
        """sum_mu K(x, x_mu) c_mu for several sets of dual coefficients at once."""
        outputs, pooled = duals.shape[-1], term.estimator == "pooled"
        blocks = []
        for cut in row_blocks(len(X), 2_000_000 // (outputs * outputs * len(term.inputs))):
            kernel = self.frozen_kernel(
                term.particles, X[cut], term.inputs, term.kind, term.estimator, term.reached
            )
            if pooled:
                kernel = leave_one_out(kernel)
            rule = "rnp,trpc->rtnc" if kernel.ndim == 3 else "rncpd,trpd->rtnc"
            f = np.einsum(rule, kernel, duals, optimize=True)
            blocks.append(np.swapaxes(pseudo_values(f) if pooled else f, 0, 1))
        return np.concatenate(blocks, axis=2)

    def frozen_gram(
        self,
        kind: FrozenKind,
        inputs: np.ndarray,
        estimator: Estimator,
        reached: np.ndarray | None = None,
    ) -> Float[np.ndarray, "R n n"]:
        """Kernel of a frozen stage on its samples: n is P where outputs decouple, else P*C.

        An analytic kernel is the same for every replicate.
        """
        gram = self.frozen_kernel(self.particles, inputs, inputs, kind, estimator, reached)
        size = math.isqrt(gram[0].size)
        return gram.reshape(len(gram), size, size)
