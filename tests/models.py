"""Every limit and every network with small sizes, every option of a stage, and who refuses which.

A new limit or network gets one line in ``MODELS``. All share their sizes, which programs are
compiled for.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

import adaptik as ak
from adaptik.limits import AbstractLimit

INPUTS = np.random.default_rng(0).standard_normal((3, 3, 7))
LABELS = np.array([-1.0, 1.0, 1.0])


def task(name: str, X, y=LABELS) -> ak.Task:
    return ak.Task(X, y, X[::-1] - X / 2, y, name=name)


SOURCE, TARGET = task("source", INPUTS[0]), task("target", INPUTS[1])
WIDE = task("wide", INPUTS[1], np.eye(2)[[0, 1, 1]])
OUTSIDE = INPUTS[2]  # of the span of both tasks' inputs
X = np.concatenate([TARGET.X, OUTSIDE])


def limit_of_the_page(**settings) -> AbstractLimit:
    """The limit that docs/add_a_limit.md builds, from a module that is its first block of code."""
    page = (Path(__file__).parents[1] / "docs" / "add_a_limit.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) < 100
    if "iid" not in sys.modules:
        sys.modules["iid"] = ModuleType("iid")
        exec(compile(code, "docs/add_a_limit.md", "exec"), vars(sys.modules["iid"]))
    return sys.modules["iid"].Iid(**settings)


PATCHES = dict(patch=(1, 3), stride=2, image=(1, 7))
DEPTH_2 = dict(depth=2, activation="tanh", replicates=2)
LIMITS = {
    "TwoLayer": ak.TwoLayer("tanh", particles=32, replicates=2),
    "Convolutional": ak.Convolutional("tanh", particles=32, replicates=2, **PATCHES),
    "Linear": ak.Linear(),
    "DeepLinear": ak.DeepLinear(2),
    "Ensemble": ak.Ensemble(width=64, **DEPTH_2),
    "Reveal": ak.Reveal(particles=128, **DEPTH_2),
    "Reveal in float64": ak.Reveal(particles=128, dtype="float64", **DEPTH_2),
    "Deep by TwoLayer": ak.Deep(1, "tanh", width=32, replicates=2),
    "Deep by Ensemble": ak.Deep(2, "tanh", width=64, replicates=2),
    "Deep by Reveal": ak.Deep(2, "tanh", width=576, replicates=2),
    "Deep by DeepLinear": ak.Deep(2, "linear"),
    "Bayesian": ak.Bayesian("tanh", temperature=0.5, particles=64, replicates=2),
    "Bayesian of depth 2": ak.Bayesian("tanh", 2, temperature=0.5, particles=64, replicates=2),
    "BayesianLinear": ak.BayesianLinear(temperature=0.5),
    "BayesianLinear of depth 2": ak.BayesianLinear(temperature=0.5, depth=2),
    "of the page": limit_of_the_page(activation="tanh", particles=64, replicates=2),
}
BIASED = " with biases"
LIMITS |= {
    f"{name}{BIASED}": replace(LIMITS[name], bias=(0.5, 0.8), **scale)
    for name, scale in (
        ("TwoLayer", dict(scale=0.7)),
        ("Linear", dict(scale=0.7)),
        ("Ensemble", {}),
        ("Deep by Ensemble", {}),
    )
}
SAMPLED = dict(temperature=0.5, warmup=4, samples=4, keep=2)
MODELS = {name: partial(ak.solve, limit=limit) for name, limit in LIMITS.items()} | {
    "train": partial(ak.train, network=ak.Network(16, "tanh"), seeds=2),
    "train convolution": partial(
        ak.train, network=ak.ConvolutionalNetwork(16, "tanh", **PATCHES), seeds=2
    ),
    "train at depth 2": partial(ak.train, network=ak.Network(16, "tanh", 2), seeds=2),
    f"train{BIASED}": partial(
        ak.train, network=ak.Network(16, "tanh", bias=0.5, scale=0.7), seeds=2
    ),
    "sample_posterior": partial(ak.sample_posterior, network=ak.Network(16, "tanh"), **SAMPLED),
    "sample_posterior at depth 2": partial(
        ak.sample_posterior, network=ak.Network(16, "tanh", 2), **SAMPLED
    ),
}
OPTIONS = {
    "plain": {},
    "kept": dict(head="kept"),
    "readout": dict(trains="readout"),
    "above a layer": dict(trains=1),
    "layers anew": dict(fresh_above=1),
    "all layers anew": dict(fresh_above=0),
    "richness": dict(richness=2.0),
    "lazy": dict(richness=0.0),
    "elastic": dict(elastic=1.0),
    "decay": dict(weight_decay=0.5),
    "lazy decay": dict(richness=0.0, weight_decay=0.5),
    "elastic readout": dict(trains="readout", elastic=1.0),
    "duration": dict(duration=0.4),
    "tolerances": dict(duration=None, loss_tol=10.0, rate_tol=10.0),
    "head rate": dict(head_rate=3.0),
    "optimal head": dict(head_rate=np.inf, weight_decay=0.5),
    "head scale": dict(head_scale=2.0),
    "low rank": dict(rank=2),
    "lazy low rank": dict(richness=0.0, rank=2, head_rate=2.0),
    "logistic": dict(loss="logistic"),
    "joint": dict(task=[TARGET, SOURCE], weights=[1, 2]),
    "outputs": dict(task=WIDE),
}
# What a model refuses that it could be asked for; everything else works.
LAYERS = {"above a layer", "layers anew", "all layers anew"}
RATE = {"head rate", "lazy low rank"}
OPTIMAL = {"optimal head"}
SCALE = {"head scale"}
RANK = {"low rank", "lazy low rank"}
POSTERIOR = (
    LAYERS
    | RATE
    | OPTIMAL
    | SCALE
    | RANK
    | {"joint", "kept", "decay", "lazy decay", "duration", "tolerances", "logistic"}
)
FIXED = {"lazy", "lazy decay", "readout"}
REFUSED = {
    "TwoLayer": LAYERS,
    "Convolutional": LAYERS | RATE | RANK | OPTIMAL,
    "Linear": LAYERS | RANK | OPTIMAL,
    "DeepLinear": RATE | RANK | OPTIMAL,
    "Ensemble": {"lazy decay"} | RATE | SCALE | RANK | OPTIMAL,
    "Reveal": FIXED | RATE | SCALE | RANK | OPTIMAL,
    "Reveal in float64": FIXED | RATE | SCALE | RANK | OPTIMAL,
    "Deep by TwoLayer": LAYERS | RATE | SCALE | RANK | OPTIMAL,
    "Deep by Ensemble": {"lazy decay"} | RATE | SCALE | RANK | OPTIMAL,
    "Deep by Reveal": FIXED | RATE | SCALE | RANK | OPTIMAL,
    "Deep by DeepLinear": RATE | SCALE | RANK | OPTIMAL,
    "Bayesian": POSTERIOR,
    "Bayesian of depth 2": POSTERIOR | {"elastic"},
    "BayesianLinear": POSTERIOR,
    "BayesianLinear of depth 2": POSTERIOR | {"elastic"},
    "of the page": LAYERS
    | FIXED
    | RATE
    | OPTIMAL
    | SCALE
    | RANK
    | {"decay", "joint", "tolerances", "logistic"},
    "train": OPTIMAL,
    "train convolution": RANK | OPTIMAL,
    "train at depth 2": {"elastic"} | RANK | OPTIMAL,
    "sample_posterior": POSTERIOR | FIXED,
    "sample_posterior at depth 2": POSTERIOR | FIXED | {"elastic"},
}
REFUSED |= {name: REFUSED[name.removesuffix(BIASED)] for name in MODELS if BIASED in name}
# Slow to compile: much like those of depth 1, and flows with terms of their own.
DEEPER = {
    "Bayesian of depth 2",
    "train at depth 2",
    "train convolution",
    "sample_posterior at depth 2",
}
# Programs of their own for what another model does as well.
LIKE_OTHERS = {
    "Reveal in float64",
    "Deep by Reveal",
    *(name for name in MODELS if BIASED in name),
}
SLOW = {("TwoLayer", "decay"), ("TwoLayer", "lazy decay"), ("train", "lazy decay"),
        ("TwoLayer", "optimal head"),
        ("Deep by TwoLayer", "decay"), ("Deep by TwoLayer", "lazy decay"),
        ("TwoLayer", "elastic"), ("train", "elastic"), ("train", "head rate"),
        ("Linear", "logistic"), ("Linear", "readout"), ("Linear", "joint"),
        ("Linear", "snapshots"), ("TwoLayer", "snapshots"),
        ("Deep by TwoLayer", "snapshots"), ("Ensemble", "snapshots"),
        ("Deep by Ensemble", "snapshots"), ("train", "snapshots"),
        *(("Convolutional", name) for name in ("decay", "lazy decay", "elastic", "snapshots",
                                               "logistic", "outputs", "tolerances"))}  # fmt: skip
COUPLED = {
    "TwoLayer",
    "Convolutional",
    "train convolution",
    "Bayesian",
    "BayesianLinear",
    "train",
    "sample_posterior",
}


def refused(name: str, option: str) -> bool:
    coupled = name.removesuffix(BIASED) in COUPLED or option not in ("elastic", "elastic readout")
    return option in REFUSED[name] or option == "elastic readout" or not coupled


def is_posterior(name: str) -> bool:
    return "duration" in REFUSED[name]


def base(name: str, option: str, rich: bool = False) -> str:
    """The option on which an option rides: a cheap one, where steps would need a new program."""
    lazy = option in ("above a layer", "logistic", "outputs", "joint") and not refused(name, "lazy")
    return "lazy" if lazy and not rich else "plain"


def stage(name: str, of=TARGET, option: str = "plain", rich: bool = False) -> ak.Stage:
    duration = {} if is_posterior(name) else dict(duration=0.3)
    under = OPTIONS[base(name, option, rich)]
    return ak.Stage(**dict(task=of, richness=1.0) | duration | under | OPTIONS[option])


def run(name: str, *stages: ak.Stage, **options) -> ak.Solution:
    # Without a duration there is one time more on record: the same number is the same program.
    record = dict(record=2 if stages[-1].duration is None else 3)
    return MODELS[name](list(stages), **({} if "sample_posterior" in name else record) | options)
