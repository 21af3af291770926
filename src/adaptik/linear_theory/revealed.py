"""Infinitely wide random matrices of a linear network, along the directions they are applied to.

An infinite Gaussian matrix W maps a direction q that it has not met to a fresh one, orthogonal to
everything else, and so does its transpose. With orthonormal directions q_k (met by W) and s_j (met
by W^T), fresh directions F_k and E_j, and the learned part M,

    W = sum_k F_k q_k^T + sum_j s_j E_j^T + S M Q^T        (theory section 5, revealed matrices)

holds on all of them, and where neurons are linear nothing else is ever needed: the infinite
network is a finite one, exactly. Neurons' space is R^n with one coordinate a fresh direction.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ..mathematics.bases import Packing, meet, padded
from ..mathematics.losses import Loss, Objective
from ..system.registry import register

ROOM = 24  # directions that the vector has room for beyond those revealed


@register
@dataclass(frozen=True, eq=False)
class Revealed:
    """One matrix W from a space of ``n`` coordinates to one of ``m``.

    Attributes
    ----------
    Q, S
        Orthonormal directions met by W, shape ``(n, q)``, and by W^T, ``(m, s)``.
    F, E
        Coordinates of W q (in the space of ``m``, ``q`` of them) and of W^T s (``s`` of them;
        none for the input layer, whose fresh directions are of vanishing size).
    M
        Learned part in the bases S, Q, shape ``(s, q)``.
    shrink
        Standard deviation of the initial part, which weight decay scales.
    """

    Q: Float[np.ndarray, "n q"]
    S: Float[np.ndarray, "m s"]
    F: Int[np.ndarray, " q"]
    E: Int[np.ndarray, " e"]
    M: Float[np.ndarray, "s q"]
    shrink: float = 1.0

    def forward(self, V: Float[np.ndarray, "n k"], size: int) -> Float[np.ndarray, "m k"]:
        """W V, without the fresh directions of what Q does not hold; m is ``size``."""
        coefficients = self.Q.T @ V
        push = self.M @ coefficients
        push[: len(self.E)] += self.shrink * V[self.E]
        out = padded(self.S @ push, size)
        out[self.F] += self.shrink * coefficients
        return out

    def backward(self, U: Float[np.ndarray, "m k"], size: int) -> Float[np.ndarray, "n k"]:
        """W^T U, likewise; n is ``size``."""
        coefficients = self.S.T @ U[: len(self.S)]
        out = padded(self.Q @ (self.shrink * U[self.F] + self.M.T @ coefficients), size)
        out[self.E] += self.shrink * coefficients[: len(self.E)]
        return out


@register
@dataclass(frozen=True, eq=False)
class LinearWeights:
    """All weights of an infinitely wide linear network.

    Attributes
    ----------
    sizes
        Coordinates of the inputs and of every hidden layer, ``L + 1`` of them.
    matrices
        W_0 .. W_{L-1}.
    head
        Readout, shape ``(sizes[L], C)``.
    """

    sizes: tuple[int, ...]
    matrices: tuple[Revealed, ...]
    head: Float[np.ndarray, "n C"]

    @classmethod
    def initial(cls, inputs: int, depth: int, scale: float = 1.0) -> "LinearWeights":
        """Matrices of which nothing is revealed, without a readout."""
        none, empty = np.zeros(0, int), np.zeros((0, 0))
        matrices = tuple(
            Revealed(np.zeros((inputs if k == 0 else 0, 0)), empty, none, none, empty, scale)
            for k in range(depth)
        )
        return cls((inputs, *[0] * depth), matrices, np.zeros((0, 0)))

    def with_fresh_layers(self, kept: int, scale: float = 1.0) -> "LinearWeights":
        """Layers above ``kept`` as if nothing of them had been revealed, and no readout.

        Nothing that was kept leads to their old coordinates.
        """
        if kept == len(self.matrices):
            return self
        new = LinearWeights.initial(self.sizes[kept], len(self.matrices) - kept, scale)
        sizes, matrices = (*self.sizes[:kept], *new.sizes), (*self.matrices[:kept], *new.matrices)
        return LinearWeights(sizes, matrices, new.head)

    def with_fresh_head(self, outputs: int, scale: float = 1.0) -> "LinearWeights":
        """A new readout in fresh directions."""
        top = self.sizes[-1]
        head = np.concatenate([np.zeros((top, outputs)), scale * np.eye(outputs)])
        return replace(self, sizes=(*self.sizes[:-1], top + outputs), head=head).aligned()

    def aligned(self) -> "LinearWeights":
        """Bases padded to the present sizes."""
        matrices = tuple(
            replace(W, Q=padded(W.Q, n), S=padded(W.S, m))
            for W, n, m in zip(self.matrices, self.sizes[:-1], self.sizes[1:], strict=True)
        )
        return replace(self, matrices=matrices, head=padded(self.head, self.sizes[-1]))

    def predictor(self) -> Float[np.ndarray, "inputs C"]:
        """W_0^T ... w: the coefficients of <z h>."""
        z = self.head
        for W, size in zip(self.matrices[::-1], self.sizes[-2::-1], strict=True):
            z = W.backward(z, size)
        return z

    def gradients(self) -> list[Float[np.ndarray, "C C"]]:
        """G_1 .. G_L: inner products of what the readout sends back, the same for all inputs."""
        z, outside = self.head, 0.0
        kernels = [z.T @ z]
        for W, size in zip(self.matrices[:0:-1], self.sizes[-2:0:-1], strict=True):
            missed = z - W.S @ (W.S.T @ z)
            outside = W.shrink**2 * (outside + missed.T @ missed)
            z = W.backward(z, size)
            kernels.insert(0, z.T @ z + outside)
        return kernels

    def features(
        self, X: Float[np.ndarray, "k inputs"], outside: Float[np.ndarray, "k k"]
    ) -> list[Float[np.ndarray, "k k"]]:
        """Phi_1 .. Phi_L of inputs whose parts outside these coordinates have Gram ``outside``.

        What a matrix has not met keeps its inner products and stays orthogonal to the rest.
        """
        kernels, V = [], X.T
        for W, size in zip(self.matrices, self.sizes[1:], strict=True):
            missed = V - W.Q @ (W.Q.T @ V)
            outside = W.shrink**2 * (outside + missed.T @ missed)
            V = W.forward(V, size)
            kernels.append(V.T @ V + outside)
        return kernels


class LinearNetworkFlow:
    """Gradient flow of a stage as y' = slope(t, y).

    W_l' = gamma z_{l+1} q_l^T - lambda W_l and w' = gamma q_L - lambda w with q_l the sum over
    samples of Delta h_l; y holds the M of every matrix and the head.
    """

    def __init__(
        self,
        weights: LinearWeights,
        X: Float[np.ndarray, "P inputs"],
        labels: Float[np.ndarray, "P C"],
        offset: Float[np.ndarray, "inputs C"],
        recorded: list[Float[np.ndarray, "k inputs"]],
        objective: Loss | Objective,
        richness: float,
        decay: float,
        trained: tuple[bool, ...],
        tol: float,
    ):
        """``offset`` are the coefficients of f - <z h>/gamma; ``trained`` is said of each layer."""
        self.X, self.labels, self.offset, self.recorded = X, labels, offset, recorded
        self.objective, self.richness, self.decay = objective, richness, decay
        self.trained, self.tol = trained, tol
        self.sizes = list(weights.sizes)
        self.matrices = list(weights.matrices)
        self.outputs = weights.head.shape[1]
        self.first = weights
        self._make_room()

    def _make_room(self) -> None:
        room = ROOM * self.outputs
        learned = [(W.S.shape[1] + room, W.Q.shape[1] + room) for W in self.matrices]
        self.packing = Packing([*learned, (self.sizes[-1] + 2 * room, self.outputs)])

    def _unpack(self, t: float, y: np.ndarray) -> tuple[list[Revealed], np.ndarray]:
        shapes = [W.M.shape for W in self.matrices]
        *learned, head = self.packing.unpack(y, [*shapes, (self.sizes[-1], self.outputs)])
        matrices = []
        for k, (W, M) in enumerate(zip(self.matrices, learned, strict=True)):
            fade = np.exp(-self.decay * t) if self.trained[k] else 1.0
            matrices.append(replace(W, M=M, shrink=float(fade * self.first.matrices[k].shrink)))
        return matrices, head

    def start(self):
        return self.packing.pack([*(W.M for W in self.matrices), self.first.head])

    def enlarge(self, y):
        matrices, head = self._unpack(0.0, y)
        self._make_room()
        return self.packing.pack([*(W.M for W in matrices), head])

    def weights_at(self, t: float, y) -> LinearWeights:
        matrices, head = self._unpack(t, y)
        matrices = tuple(replace(W, M=W.M.copy()) for W in matrices)
        return LinearWeights(tuple(self.sizes), matrices, head.copy()).aligned()

    def slope(self, t, y):
        gamma, decay, depth = self.richness, self.decay, len(self.matrices)
        matrices, head = self._unpack(t, y)
        z, sent = head, [head] * depth  # sent: S^T z_{l+1}
        for k in reversed(range(depth)):
            matrices[k], sent[k] = self._meet(k, matrices[k], z, backward=True)
            z = matrices[k].backward(z, self.sizes[k])
        met, q = self.push(matrices, self.X.T @ self._signal(z))
        learned = [
            gamma * e @ coefficients.T - decay * W.M if on else 0 * W.M
            for e, coefficients, W, on in zip(sent, met, matrices, self.trained[:-1], strict=True)
        ]
        step = gamma * q - decay * padded(head, len(q)) if self.trained[-1] else 0 * q
        return self.packing.pack([*learned, step])

    def push(self, matrices: list[Revealed], q: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Send q through all matrices, revealing them: Q^T q_l of every layer, and q_L."""
        met = []
        for k in range(len(matrices)):
            matrices[k], coefficients = self._meet(k, matrices[k], q, backward=False)
            met.append(coefficients)
            q = matrices[k].forward(q, self.sizes[k + 1])
        return met, q

    def _meet(self, k: int, W: Revealed, V: np.ndarray, backward: bool):
        """Extend the basis of matrix k until it holds the columns of V: W, and V in the basis."""
        n, m = self.sizes[k : k + 2]
        W = replace(W, Q=padded(W.Q, n), S=padded(W.S, m))
        basis = W.S if backward else W.Q
        inside, new = meet(basis, padded(V, len(basis)), self.tol, size=1.0)
        if new.shape[1]:
            s, q = W.M.shape
            self.packing.check(k, (len(inside), q) if backward else (s, len(inside)))
            basis = np.concatenate([basis, new], axis=1)
            W = self._extended(k, W, basis, new.shape[1], backward)
        return W, inside

    def _extended(self, k: int, W: Revealed, basis, count: int, backward: bool) -> Revealed:
        if backward:
            W = replace(W, S=basis, M=padded(W.M, basis.shape[1]))
            if k > 0:
                W = replace(W, E=np.append(W.E, self._fresh(k, count)))
        else:
            W = replace(W, Q=basis, M=padded(W.M, W.M.shape[0], basis.shape[1]))
            W = replace(W, F=np.append(W.F, self._fresh(k + 1, count)))
        n, m = self.sizes[k : k + 2]
        W = replace(W, Q=padded(W.Q, n), S=padded(W.S, m))
        self.matrices[k] = W
        return W

    def _fresh(self, layer: int, count: int) -> np.ndarray:
        first = self.sizes[layer]
        if layer == len(self.sizes) - 1:
            self.packing.check(-1, (first + count, self.outputs))
        self.sizes[layer] += count
        return np.arange(first, first + count)

    def _signal(self, predictor: np.ndarray) -> np.ndarray:
        f = self.X @ (self.offset + predictor / self.richness)
        return np.asarray(self.objective.signal(f, self.labels)) / len(self.labels)

    def _coefficients(self, t, y):
        return self.offset + self.weights_at(t, y).predictor() / self.richness

    def rate(self, t, y, slope):
        """Rate of decrease of the loss with what decay of the learned part adds: |y'|^2/gamma^2.

        What is left of the matrices at the start fades by itself and is left out.
        """
        return self.objective.rate_factor * float(slope @ slope) / self.richness**2

    def losses(self, t, y):
        f = self.X @ self._coefficients(t, y)
        return np.asarray(self.objective.by_part(f, self.labels))

    def units(self):
        return self.objective.units(self.labels)

    def predictions(self, t, y):
        beta = self._coefficients(t, y)
        return [X @ beta for X in self.recorded]
