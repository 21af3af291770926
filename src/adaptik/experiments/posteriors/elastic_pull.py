"""Target stages of posteriors that are pulled to a sample of the source's posterior."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ...limits import Bayesian, BayesianLinear
from ...limits.base import AbstractLimit
from ...limits.solving import solve
from ...networks import Network, sample_posterior
from ...solution import Solution
from ...solution.estimate import leave_one_out, pseudo_values
from ...tasks import Task
from ...tasks.stages import Stage
from ..both import Accuracy, named, stacked
from ..finding import listed

COMPARED = 100  # test inputs at most on which kernels are compared


@dataclass(frozen=True, kw_only=True)
class Config(Accuracy):
    """What posteriors need beside the tasks.

    Attributes
    ----------
    temperature
        T of both stages.
    elastic
        Values of delta, from 0 (no pull).
    warmup, samples
        Trajectories of every network before and while it is observed. ``networks`` counts chains,
        each with a source network of its own.
    """

    particles: int = 1024
    width: int = 512
    temperature: float = 0.02
    elastic: tuple[float, ...] = (0.0, 0.3, 1.0, 10.0, 100.0)
    warmup: int = 30
    samples: int = 40

    @property
    def accuracy(self) -> str:
        """In words, for captions."""
        theory = f"{self.replicates} replicates of {self.particles} particles"
        if self.activation == "linear":
            theory = f"closed form (flow: {theory})"
        return (
            f"{self.activation} networks with one hidden layer; posteriors at temperature "
            f"T = {self.temperature:g}; theory: {theory}; networks: width {self.width}, "
            f"{self.networks} chains of {self.samples} samples (after {self.warmup}) for each of "
            f"{self.draws} draws of the data; seed {self.seed}"
        )

    @property
    def pull(self) -> str:
        """In words, for captions."""
        return (
            f"the target stage with a pull δ = {listed(self.elastic)} towards a sample of the "
            f"source's posterior; {self.accuracy}"
        )

    @property
    def limit(self) -> AbstractLimit:
        if self.activation == "linear":
            return BayesianLinear(self.temperature)
        return Bayesian(
            self.activation,
            temperature=self.temperature,
            particles=self.particles,
            replicates=self.replicates,
        )


PAPER: dict[str, Any] = dict(
    particles=16_384,
    replicates=8,
    width=4000,
    networks=8,
    draws=10,
    warmup=200,
    samples=400,
    elastic=(0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0),
)


def pulled(
    source: Task, targets: Sequence[Task], richness: float, config: Config, draw: int
) -> xr.Dataset:
    """Target stages at every ``config.elastic`` and numbers of samples, after one source stage.

    Returns
    -------
    xr.Dataset
        ``theory_loss`` (n_target, elastic, replicate) and ``network_loss`` (.., seed): test losses.
        ``theory_source_kernel`` and ``theory_scratch_kernel``, and the same of networks: cosines
        of the centred feature kernel on test inputs with that of the source stage, and with
        that at ``elastic[0]``. Exact theory has two equal replicates.
    """
    key, first = config.seed + draw, Stage(source, richness)
    network = Network(config.width, config.activation)
    sides = {
        "theory": partial(solve, limit=config.limit, key=key, record=2),
        "network": partial(
            sample_posterior,
            network=network,
            temperature=config.temperature,
            chains=config.networks,
            warmup=config.warmup,
            samples=config.samples,
            key=key,
        ),
    }
    before = {name: run([first], observe=targets) for name, run in sides.items()}
    found = {}
    for task in targets:
        stages = [Stage(task, richness, elastic=delta) for delta in config.elastic]
        ends = {
            name: [run([stage], after=before[name]) for stage in stages]
            for name, run in sides.items()
        }
        found[task.n_train] = xr.merge(_observed(ends, task))
    return stacked("n_target", found).assign_coords(elastic=list(config.elastic))


def _observed(ends: dict[str, list[Solution]], task: Task) -> Iterator[xr.Dataset]:
    """Losses and cosines of the ends of all target stages."""
    losses = {name: [_losses(end, task) for end in each] for name, each in ends.items()}
    yield named(_members(losses), "loss")
    for what, stage in (("source", -2), ("scratch", -1)):
        likeness = {
            name: [_cosines(end.states[-1], each[0].states[stage], task) for end in each]
            for name, each in ends.items()
        }
        yield named(_members(likeness), f"{what}_kernel")


def _members(sides: dict[str, list[Float[np.ndarray, " members"]]]) -> xr.Dataset:
    """Of both sides, at every pull."""
    theory, network = np.stack(sides["theory"]), np.stack(sides["network"])
    if theory.shape[1] == 1:  # exact: nothing is spread
        theory = np.repeat(theory, 2, axis=1)
    return xr.Dataset(
        {"theory": (("elastic", "replicate"), theory), "network": (("elastic", "seed"), network)}
    )


def _losses(end: Solution, task: Task) -> Float[np.ndarray, " members"]:
    """Test losses of the mean predictor as jackknife pseudo-values, as in :class:`.Both`."""
    f, y = end.predictions(task)[-1], task.split("test")[1]
    squares = np.sum((leave_one_out(f) - y) ** 2, axis=-1)
    return pseudo_values(squares.mean(-1))


def _cosines(state: Any, other: Any, task: Task) -> Float[np.ndarray, " members"]:
    """Cosine of two states' centred feature kernels as jackknife pseudo-values.

    Of the kernels' means over members: what single members fluctuate would look like a distance.
    """
    X = task.split("test")[0][:COMPARED]
    one, two = (leave_one_out(_centred(s.kernel(X, None, "feature"))) for s in (state, other))
    sizes = np.linalg.norm(one, axis=(1, 2)) * np.linalg.norm(two, axis=(1, 2))
    return pseudo_values(np.sum(one * two, axis=(1, 2)) / sizes)


def _centred(kernels: Float[np.ndarray, "members n n"]) -> Float[np.ndarray, "members n n"]:
    rows = kernels - kernels.mean(1, keepdims=True)
    return rows - rows.mean(2, keepdims=True)
