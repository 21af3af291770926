"""The infinite-width limit and finite networks side by side, through the same stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from ..limits import AbstractLimit, TwoLayer
from ..limits.solving import solve
from ..mathematics import losses
from ..networks import Network, train
from ..solution import Solution
from ..solution.estimate import leave_one_out, pseudo_values
from ..tasks import Task
from ..tasks.stages import Stage, target_stage


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How precisely an experiment is computed; configurations extend it.

    Attributes
    ----------
    activation
        Of the hidden layer.
    particles, replicates
        Of the limit (see :class:`adaptik.TwoLayer`).
    width, networks
        Width and number of the networks beside it, for every draw; at least 2.
    draws
        Independent draws of the data.
    seed
        Fixes everything; draw d uses ``seed + d``.
    """

    activation: str = "relu"
    particles: int = 1024
    replicates: int = 3
    width: int = 1024
    networks: int = 3
    draws: int = 3
    seed: int = 0

    @property
    def limit(self) -> AbstractLimit:
        """The infinite-width limit."""
        return TwoLayer(self.activation, particles=self.particles, replicates=self.replicates)

    @property
    def network(self) -> Network:
        """The network beside it."""
        return Network(self.width, self.activation, tol=3e-3)

    @property
    def accuracy(self) -> str:
        """In words, for captions."""
        return (
            f"{self.activation} networks with one hidden layer; theory: {self.replicates} "
            f"replicates of {self.particles} particles; networks: width {self.width}, "
            f"{self.networks} for each of {self.draws} draws of the data; seed {self.seed}"
        )


PAPER: dict[str, Any] = dict(
    particles=8192, replicates=8, width=20_000, networks=5, draws=10
)  # accuracy of the preset ``full``: the paper's width, and enough particles for it


@dataclass(frozen=True)
class Both:
    """Solutions of the limit and of networks."""

    theory: Solution
    network: Solution

    @classmethod
    def run(
        cls,
        stages: Sequence[Stage],
        config: Accuracy,
        draw: int,
        *,
        after: "Both | None" = None,
        observe: Sequence[Task] = (),
        record: int = 13,
    ) -> "Both":
        """Go through ``stages``, networks for the times that the theory took."""
        key = config.seed + draw
        before = (None, None) if after is None else (after.theory, after.network)
        common: dict[str, Any] = dict(observe=observe, record=record)
        theory = solve(stages, config.limit, key=key, after=before[0], **common)
        times = theory.timed_stages[-len(stages) :]
        seeds = range(1000 * key, 1000 * key + config.networks)  # of every draw others
        network = train(times, config.network, seeds=seeds, after=before[1], **common)
        return cls(theory, network)

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """Recorded times of the last stage."""
        return self.theory.records[-1].times

    def losses(self, task: Task, stage: int = -1) -> xr.Dataset:
        """Test losses of ``task`` over the recorded times of a stage.

        Variables ``theory`` (time, replicate) and ``network`` (time, seed). Networks are judged by
        the loss of their mean predictor, as pseudo-values of the jackknife: the loss of single
        networks is larger by their variance, of order 1/width, which has no counterpart in the
        limit.
        """
        theory, network = self._losses(task, stage)
        return xr.Dataset(
            {"theory": (("time", "replicate"), theory), "network": (("time", "seed"), network)}
        )

    def over_time(self, **tasks: Task) -> xr.Dataset:
        """:meth:`losses` of tasks as ``theory_{name}`` and ``network_{name}``, with their times.

        Times below a thousandth of the last stage, before anything changes, are left out.
        """
        found = xr.merge(named(self.losses(task), name) for name, task in tasks.items())
        late = np.flatnonzero(self.times >= 1e-3 * self.times[-1])
        return found.assign_coords(time=self.times).isel(time=late)

    def final(self, task: Task) -> xr.Dataset:
        """:meth:`losses` at the end of the last stage."""
        theory, network = self._losses(task, -1)
        return xr.Dataset({"theory": ("replicate", theory[-1]), "network": ("seed", network[-1])})

    def _losses(self, task: Task, stage: int) -> tuple[np.ndarray, np.ndarray]:
        theory = self.theory.losses(task, stage=stage)
        f, y = self.network.predictions(task, stage=stage), task.split("test")[1]
        loss = losses.get(self.network.stages[stage].loss)
        with jax.enable_x64(True):
            values = np.asarray(loss.value(leave_one_out(np.swapaxes(f, 0, 1)), y)).mean(-1)
        return theory, np.swapaxes(pseudo_values(values), 0, 1)


def of_size(task: Task, n_train: int) -> Task:
    """The task with ``n_train`` of its training samples, classes as balanced as can be.

    Examples
    --------
    >>> task = Task([[1.0], [2.0], [3.0], [4.0]], [-1, -1, 1, 1], name="t", classes=("a", "b"))
    >>> of_size(task, 2).y.ravel().tolist()
    [-1.0, 1.0]
    """
    label = task.y[:, 0]
    rank = np.arange(len(label))
    for value in np.unique(label) if task.classes else ():
        rank[label == value] = np.arange((label == value).sum())
    rows = np.argsort(rank, kind="stable")[:n_train]
    return replace(task, X=task.X[rows], y=task.y[rows], name=f"{task.name}, P₂ = {n_train}")


def named(dataset: xr.Dataset, what: str) -> xr.Dataset:
    """Variables ``theory_{what}`` and ``network_{what}``."""
    return dataset.rename(theory=f"theory_{what}", network=f"network_{what}")


def stacked(dim: str, found: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """Data sets along a new dimension, by their levels on it."""
    return xr.concat(list(found.values()), dim).assign_coords({dim: list(found)})


def fine_tuned(
    target: Task,
    counts: Sequence[int],
    config: Accuracy,
    draw: int,
    *,
    after: Both | None,
    mode: str = "readout",
    head: Literal["fresh", "kept"] = "fresh",
) -> xr.Dataset:
    """Final losses ``theory_loss`` and ``network_loss`` for numbers ``n_target`` of samples.

    ``after=None`` fine-tunes the features at initialisation: a lazy source leaves them as they are.
    """
    found = {}
    for count in counts:
        task = of_size(target, count)
        stage = target_stage(task, mode, head=head)
        both = Both.run([stage], config, draw, after=after, record=2)
        found[count] = named(both.final(task), "loss")
    return stacked("n_target", found)
