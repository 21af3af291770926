"""A deep posterior at infinite width: weighted neurons of every layer, and the predictor."""

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...kernels.particles.law import field, row_blocks
from ...kernels.regression import dual_of
from ...mathematics.activations import Activation
from ...mathematics.sampling import independent
from ...solution import AbstractState, Kernels
from ...system.registry import register
from ...tasks import Task
from ...tasks.span import Span

JITTER = 1e-11  # of a kernel's trace: what inputs that repeat others have left of their own


class Layer(NamedTuple):
    """One layer of one replicate at the law's inputs, then at others.

    Attributes
    ----------
    xi
        Standard Gaussians before the tilt, shape ``(M, k + others)``.
    root
        h = xi root^T, shape ``(n, k + others)``.
    phi, slope
        phi(h) and phi'(h), shape ``(M, n)``.
    weights
        Of the particles, shape ``(M,)``.
    """

    xi: np.ndarray
    root: np.ndarray
    phi: np.ndarray
    slope: np.ndarray
    weights: np.ndarray


@register
@dataclass(frozen=True, eq=False)
class DeepBayesianState(AbstractState):
    """Neurons of every layer and replicate, and the predictor f(x) = Phi_L(x, .) dual.

    A new input joins layer by layer: h_l there is Gaussian given h_l at the law's inputs, with the
    kernel Phi_{l-1} of both, since only inputs of the law are tilted.

    Attributes
    ----------
    activation, span
        phi, and the coordinates in which first-layer weights live.
    w
        First-layer weights, shape ``(R, M, rank)``.
    xi
        Coordinates of neurons of the layers above, shape ``(R, L - 1, M, P)``.
    roots
        h_l = xi roots^T, shape ``(R, L - 1, P, P)``.
    weights
        Of the neurons in averages; sum 1 in every layer, shape ``(R, L, M)``.
    inputs
        Inputs of the law, shape ``(P, D)``: those of the stage that moved the features, then those
        on which a later readout was trained.
    delta
        gamma Delta: readouts given h_L are N(delta' phi(h_L), 1), shape ``(R, P, C)``.
    dual
        (Phi_L + 1/beta)^-1 y on the neurons, shape ``(R, P, C)``.
    action
        The action at the saddle point, shape ``(R,)``; NaN where the features were frozen.
    residual
        Relative residuals of the equations for Delta, Phi and Phihat, shape ``(R, 3)``.
    effective
        Effective numbers of neurons, shape ``(R, L)``.
    memory
        Correlation of neurons' tilts with those before the last moves, the largest over layers,
        shape ``(R,)``: near 1 they have not moved enough to be trusted.
    acceptance
        Of Monte Carlo moves, the smallest over layers, shape ``(R,)``.
    """

    activation: Activation
    span: Span
    w: Float[np.ndarray, "R M rank"]
    xi: Float[np.ndarray, "R layers M P"]
    roots: Float[np.ndarray, "R layers P P"]
    weights: Float[np.ndarray, "R L M"]
    inputs: Float[np.ndarray, "P D"]
    delta: Float[np.ndarray, "R P C"]
    dual: Float[np.ndarray, "R P C"]
    action: Float[np.ndarray, " R"]
    residual: Float[np.ndarray, "R 3"]
    effective: Float[np.ndarray, "R L"]
    memory: Float[np.ndarray, " R"]
    acceptance: Float[np.ndarray, " R"]

    @property
    def hidden_layers(self) -> int:
        return self.weights.shape[1]

    def scaled(self, factor):
        return replace(self, dual=factor * self.dual)

    def predict(self, X):
        found = []
        for r in range(len(self.w)):
            at = self._layers(r, np.zeros((0, X.shape[1])))
            found.append(
                np.concatenate([self._predicted(r, at, X[cut]) for cut in row_blocks(len(X))])
            )
        return np.stack(found)

    def kernels(self, X, rows, columns):
        each = [self._layers(r, X) for r in range(len(self.w))]
        gradients = cache(lambda: [self._gradients(r, layers) for r, layers in enumerate(each)])

        def feature(layer: int) -> np.ndarray:
            whole = (self._new(self._feature(layers[layer - 1])) for layers in each)
            return np.stack([kernel[rows, columns] for kernel in whole])

        def gradient(layer: int) -> np.ndarray:
            return np.stack([found[layer - 1][rows, columns] for found in gradients()])

        return Kernels(feature, gradient)

    def preactivations(self, X):
        """Weights are turned into numbers of copies."""
        rng, new, found = np.random.default_rng(0), slice(len(self.inputs), None), []
        for r in range(len(self.w)):
            last = self._layers(r, X)[-1]
            chosen = rng.choice(len(last.xi), len(last.xi), p=last.weights)
            found.append((last.xi @ last.root.T)[chosen, new])
        return np.stack(found)

    def with_readout(self, task: Task, richness: float, ridge: float) -> "DeepBayesianState":
        """The same features, and kernel regression on them at other inputs in the span."""
        known, none = len(self.inputs), np.zeros(len(self.w))
        layers = [self._layers(r, task.X) for r in range(len(self.w))]
        dual = np.stack(
            [dual_of(each[-1].phi[:, known:], each[-1].weights, task.y, ridge) for each in layers]
        )
        dual = np.pad(dual, ((0, 0), (known, 0), (0, 0)))
        return replace(
            self,
            xi=np.stack([np.stack([layer.xi for layer in each[1:]]) for each in layers]),
            roots=np.stack([np.stack([layer.root for layer in each[1:]]) for each in layers]),
            inputs=np.concatenate([self.inputs, task.X]),
            delta=richness * dual,
            dual=dual,
            action=none * np.nan,
            residual=np.zeros_like(self.residual),
            memory=none,
            acceptance=none + 1,
        )

    def _layers(self, r: int, X) -> list[Layer]:
        """All layers at the law's inputs and at X, what is not given drawn once per neuron."""
        rng, known = np.random.default_rng([r, len(self.inputs)]), len(self.inputs)
        points = self.span.points(np.concatenate([self.inputs, X]))
        rest = points.orthogonal[known:]
        layers, kernel = [], None
        for i, weights in enumerate(self.weights[r]):
            if kernel is None:
                xi, inside, own = self.w[r], points.inside, rest @ rest.T
            else:
                xi, root = self.xi[r, i - 1], self.roots[r, i - 1]
                cross = np.linalg.lstsq(kernel[:known, :known], kernel[:known], rcond=1e-10)[0].T
                inside = cross @ root
                inside[:known] = root
                own = kernel[known:, known:] - cross[known:] @ kernel[:known, known:]
            draws = rng.standard_normal((len(X), len(xi))).T
            columns = np.column_stack([np.ones(len(xi)), xi])
            if len(X) and 2 * (columns.shape[1] + len(X)) < len(xi):
                draws = independent(draws, columns, weights)
            layers.append(self._layer(xi, inside, draws, own, weights))
            kernel = self._feature(layers[-1])
        return layers

    def _layer(self, xi, inside, draws, own, weights) -> Layer:
        known, rank = len(self.inputs), xi.shape[1]
        root = np.zeros((len(inside), rank + draws.shape[1]))
        root[:, :rank] = inside
        if len(own):
            size = JITTER * (np.sum(inside**2) + np.trace(own))
            root[known:, rank:] = np.linalg.cholesky(own + size * np.eye(len(own)))
        xi = np.column_stack([xi, draws])
        with jax.enable_x64(True):
            h = jnp.asarray(xi @ root.T)
            phi = np.asarray(self.activation.phi(h))
            slope = np.asarray(self.activation.derivative(h))
        return Layer(xi, root, phi, slope, weights)

    def _predicted(self, r: int, at: list[Layer], X) -> Float[np.ndarray, "n C"]:
        """Predictions, averaged over what new inputs add to the neurons of each layer."""
        rng = np.random.default_rng(r)
        points = self.span.points(X)
        inside, rho = points.inside, points.rho
        cross, size = np.zeros((0, 0)), np.zeros(0)
        for i, layer in enumerate(at):
            if i:
                below = at[i - 1]
                solved = np.linalg.lstsq(self._feature(below), cross.T, rcond=1e-10)[0].T
                inside = solved @ layer.root
                rho = np.sqrt(np.maximum(size - np.sum(solved * cross, axis=1), 0.0))
            xi = layer.xi
            with jax.enable_x64(True):
                args = (jnp.asarray(v) for v in (xi[None], inside, rho))
                phi = np.asarray(field(self.activation, *args, smooth=bool(rho.any())))[0]
                h = xi @ inside.T + rho * rng.standard_normal((len(xi), len(X)))
                drawn = np.asarray(self.activation.phi(jnp.asarray(h)))
            cross = (phi.T * layer.weights) @ layer.phi
            size = layer.weights @ drawn**2
        return cross @ self.dual[r]

    def _feature(self, layer: Layer) -> Float[np.ndarray, "n n"]:
        return (layer.phi.T * layer.weights) @ layer.phi

    def _new(self, kernel: Float[np.ndarray, "n n"]) -> np.ndarray:
        """Without the law's inputs."""
        return kernel[len(self.inputs) :, len(self.inputs) :]

    def _gradients(self, r: int, layers: list[Layer]) -> list[Float[np.ndarray, "n n C C"]]:
        """<g g> of all layers at the inputs after the law's.

        A neuron's backward field is Gaussian around a mean: in the last layer m = delta' phi(h_L),
        and phi_l' Phi_l^-1 <h_{l+1} g_{l+1}> below, since the weights above know of h_{l+1}.
        """
        known = len(self.inputs)
        last = layers[-1]
        mean = (last.phi[:, :known] @ self.delta[r])[:, None, :]
        own = np.eye(mean.shape[-1])[None, None]
        found = []
        for i in reversed(range(len(layers))):
            layer = layers[i]
            slope = layer.slope[:, known:]
            g = slope[..., None] * mean
            spread = np.einsum("m,mn,mk->nk", layer.weights, slope, slope, optimize=True)
            own = spread[..., None, None] * own
            own = own + np.einsum("m,mnc,mkd->nkcd", layer.weights, g, g, optimize=True)
            found.append(own)
            if i:
                mean = self._returned(layers[i - 1], layer, g)
        return found[::-1]

    def _returned(self, below: Layer, layer: Layer, g) -> Float[np.ndarray, "M n C"]:
        """Mean backward field of the layer below, given its h."""
        known = len(self.inputs)
        rank = layer.root.shape[1] - (len(layer.root) - known)
        inside, own = layer.root[:, :rank], layer.root[known:, rank:]
        # Coordinates of features below in which their second moments are 1.
        zeta = np.linalg.lstsq(inside[:known], below.phi[:, :known].T, rcond=1e-8)[0].T
        response = np.einsum("m,mk,mnc->knc", layer.weights, layer.xi[:, :rank], g, optimize=True)
        mean = np.einsum("mk,knc->mnc", zeta, response, optimize=True)
        # What an input has of its own acts back on that input alone.
        rho = np.linalg.norm(own, axis=1)
        rho[rho < 1e-4 * np.linalg.norm(layer.root[known:], axis=1)] = np.inf
        noise = layer.xi[:, rank:] @ own.T / rho
        rest = (below.phi[:, known:] - zeta @ inside[known:].T) / rho
        alone = np.einsum("m,mn,mnc->nc", layer.weights, noise, g, optimize=True)
        return mean + rest[..., None] * alone
