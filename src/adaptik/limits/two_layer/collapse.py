"""When weight decay takes a two-layer network to the origin instead of features.

At the origin Delta = y/P, and a neuron grows at the rate gamma G - lambda, where G is the largest
|sum_mu y_mu phi(n.x_mu/sqrt(D))|/P over unit vectors n for activations of homogeneity one, and the
largest singular value of phi'(0) sum_mu y_mu x_mu/(sqrt(D) P) for those smooth at phi(0) = 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from ...mathematics import activations
from ...mathematics.activations import Activation, Elementwise
from ...system.errors import InputError, require_between
from ...tasks import Task

STARTS = 32


def collapse_richness(
    task: Task, weight_decay: float, activation: str | Activation | Elementwise = "relu"
) -> float:
    """The richness up to which the origin attracts a two-layer network under weight decay.

    Above it features survive; below it small weights decay to zero, and :func:`adaptik.solve`
    reports :attr:`adaptik.Outcome.COLLAPSED` where a stage ends there.

    Parameters
    ----------
    task
        What is learned.
    weight_decay
        lambda > 0.
    activation
        phi; 0 is returned where phi(0) is not 0, since readouts then always grow.

    Raises
    ------
    InputError
        Without weight decay.

    Examples
    --------
    >>> task = Task([[1.0], [-1.0]], [1.0, -1.0])
    >>> collapse_richness(task, 0.1, "linear"), collapse_richness(task, 0.1, "relu")
    (0.1, 0.2)
    """
    require_between(0, np.inf, weight_decay=weight_decay)
    phi = activations.get(activation)
    X, y = task.X / np.sqrt(task.dimension), task.y / task.n_train
    with jax.enable_x64(True):
        origin = jnp.zeros(())
        value, slope = float(phi.phi(origin)), float(phi.derivative(origin))
    if value != 0:
        return 0.0
    if phi.family == "leaky_relu":
        growth = _largest(X, y, phi.parameters[0])
    else:
        growth = slope * float(np.linalg.norm(y.T @ X, 2))
    if growth == 0:
        raise InputError("task: its labels have no first moment with the inputs; nothing grows")
    return float(round(weight_decay / growth, 12))


def _largest(X: np.ndarray, y: np.ndarray, slope: float) -> float:
    """Largest |y' phi(X n)| over unit vectors n, from several starts."""

    def objective(n):
        size = np.linalg.norm(n)
        h = X @ (n / size)
        pull = y.T @ np.where(h > 0, h, slope * h)
        strength = np.linalg.norm(pull)
        gradient = X.T @ (np.where(h > 0, 1.0, slope) * (y @ pull)) / max(strength, 1e-300)
        gradient = (gradient - (gradient @ n) * n / size**2) / size
        return -strength, -gradient

    rng = np.random.default_rng(0)
    starts = np.concatenate([(y.T @ X), -(y.T @ X), rng.standard_normal((STARTS, X.shape[1]))])
    found = [minimize(objective, start, jac=True, method="BFGS").fun for start in starts]
    return -float(min(found))
