"""Features under weight decay whose readout is at its optimum at every time (theory section 2).

The limit of an infinite rate of the readout: it forgets where it started, and is a function of the
features, on which the flow of first-layer weights then depends alone.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kernels.particles.law import Law
from ...mathematics.stepping import AbstractFlow, Rest
from .flow import ParticleFlow, Recorder
from .linearised import alike
from .rest import at_rest


class OptimalHead(AbstractFlow):
    """dw of a flow of particles with ``Delta = lambda (Phi + lambda P)^-1 y``; y are weights alone.

    Where a readout has a bias, Phi has b_r^2 as well; where tasks have weights W in the loss, Delta
    is ``sqrt(W) lambda (sqrt(W) Phi sqrt(W) + lambda P)^-1 sqrt(W) y`` for every output.
    """

    inner: ParticleFlow

    def law(self, w: Float[Array, "R M k"]) -> Law:
        """Weights, and ``z = (gamma/lambda) sum_mu Delta_mu phi(h_mu)``."""
        return self._fields(w)[0]

    def _fields(self, w: Float[Array, "R M k"]):
        """The law, preactivations, features and error signals."""
        flow, w = self.inner, w.astype(self.inner.dtype)
        h = flow.anchors.coordinates.preactivations(w)
        phi = flow.activation.phi(h)
        signal = self._signal(phi)
        pushes = (flow.richness / flow.decay * signal).astype(phi.dtype)
        z = jnp.einsum("rmp,rpc->rmc", phi, pushes)
        c = None if flow.bias is None else alike(flow.bias * jnp.sum(pushes, 1), z)
        return Law(w, z, c), h, phi, signal

    def _signal(self, phi: Float[Array, "R M P"]) -> Float[Array, "R P C"]:
        flow, (_, count, samples) = self.inner, phi.shape
        feature = jnp.einsum("rmp,rmq->rpq", phi, phi).astype(jnp.float64) / count
        if flow.bias is not None:
            feature = feature + flow.bias.astype(jnp.float64) ** 2
        weights = flow.objective.weights
        root = jnp.ones_like(flow.labels) if weights is None else jnp.sqrt(weights)
        ridge = samples * jnp.eye(samples)

        def of_output(root, wanted):
            kernel = root[:, None] * feature * root / flow.decay + ridge
            return root * jnp.linalg.solve(kernel, (root * wanted)[..., None])[..., 0]

        return jax.vmap(of_output, (1, 2), 2)(root, flow.labels - flow.offset)

    def __call__(self, y):
        law, h, phi, signal = self._fields(y)
        slope = self.inner.activation.derivative(h)
        return self.inner.move(law, phi, slope, signal).w.astype(y.dtype)

    def losses(self, y):
        return self.inner.losses(self.law(y))

    def units(self):
        return self.inner.units()

    def burden(self, y):
        return self.inner.burden(self.law(y))

    def weigh(self, y, error):
        law, error = self.law(y), error.astype(self.inner.dtype)
        given = law.w
        change = jax.jvp(lambda w: self.inner.predictor(self.law(w)), (given,), (error,))[1]
        still = jax.tree.map(jnp.zeros_like, law)
        return self.inner.weighed(law, still._replace(w=error), change)

    def at_rest(self, w: Float[Array, "R M k"]) -> Rest:
        """Where the flow comes to rest: there readouts of any rate do."""
        found = at_rest(self.inner, law_of(self, w))
        return found if found.y is None else found._replace(y=found.y.w)


class OptimalRecorder(eqx.Module):
    """Predictions at recorded inputs."""

    flow: OptimalHead
    inner: Recorder

    def __call__(self, t, y) -> list[Array]:
        return self.inner(t, self.flow.law(y))


@eqx.filter_jit
def law_of(flow: OptimalHead, w) -> Law:
    return flow.law(w)
