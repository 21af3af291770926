"""What every limit and every network promises: each option works or is refused in one line.

A new limit or network gets one line in ``MODELS``. All share their sizes, which programs are
compiled for.
"""

import functools
import importlib
import inspect
import pkgutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import adaptik as ak
from adaptik import limits, networks
from adaptik.continuing import made_by
from adaptik.limits import Limit
from adaptik.solution import KERNEL_KINDS

SAMPLES, DIMENSION = 3, 7  # test inputs lie outside the span of both tasks
RNG = np.random.default_rng(0)


def task(name, labels=(-1.0, 1.0, 1.0)):
    X, X_test = RNG.standard_normal((2, SAMPLES, DIMENSION))
    return ak.Task(X, labels, X_test, labels, name=name)


SOURCE, TARGET = task("source"), task("target")
WIDE = ak.Task(TARGET.X, np.eye(2)[[0, 1, 1]], TARGET.X_test, np.eye(2)[[0, 1, 1]], name="wide")
X = np.concatenate([TARGET.X, TARGET.X_test])

DEPTH_2 = dict(depth=2, activation="tanh", replicates=2)
LIMITS = {
    "TwoLayer": ak.TwoLayer("tanh", particles=32, replicates=2),
    "Linear": ak.Linear(),
    "DeepLinear": ak.DeepLinear(2),
    "Ensemble": ak.Ensemble(width=32, **DEPTH_2),
    "Reveal": ak.Reveal(particles=128, **DEPTH_2),
    "Reveal in float64": ak.Reveal(particles=128, dtype="float64", **DEPTH_2),
    "Deep by TwoLayer": ak.Deep(1, "tanh", width=32, replicates=2),
    "Deep by Ensemble": ak.Deep(2, "tanh", width=32, replicates=2),
    "Deep by Reveal": ak.Deep(2, "tanh", width=512, replicates=2),
    "Deep by DeepLinear": ak.Deep(2, "linear"),
    "Bayesian": ak.Bayesian("tanh", temperature=0.5, particles=64, replicates=2),
    "Bayesian of depth 2": ak.Bayesian("tanh", 2, temperature=0.5, particles=64, replicates=2),
    "BayesianLinear": ak.BayesianLinear(temperature=0.5),
    "BayesianLinear of depth 2": ak.BayesianLinear(temperature=0.5, depth=2),
}
SAMPLED = dict(temperature=0.5, warmup=4, samples=4, keep=2)
MODELS = {name: partial(ak.solve, limit=limit) for name, limit in LIMITS.items()} | {
    "train": partial(ak.train, network=ak.Network(16, "tanh"), seeds=2),
    "train at depth 2": partial(ak.train, network=ak.Network(16, "tanh", 2), seeds=2),
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
    "richness": dict(richness=2.0),
    "lazy": dict(richness=0.0),
    "elastic": dict(elastic=1.0),
    "decay": dict(weight_decay=0.5),
    "lazy decay": dict(richness=0.0, weight_decay=0.5),
    "elastic readout": dict(trains="readout", elastic=1.0),
    "duration": dict(duration=0.4),
    "tolerances": dict(duration=None, loss_tol=10.0, rate_tol=10.0),
    "logistic": dict(loss="logistic"),
    "outputs": dict(task=WIDE),
}
# What a model refuses that it could be asked for; everything else works.
POSTERIOR = {"kept", "above a layer", "layers anew", "decay", "lazy decay", "duration",
             "tolerances", "logistic", "elastic readout"}  # fmt: skip
FIXED = {"lazy", "lazy decay", "readout"}
LAYERS = {"above a layer", "layers anew"}
REFUSED = {
    "TwoLayer": LAYERS,
    "Linear": LAYERS,
    "DeepLinear": set(),
    "Ensemble": {"lazy decay"},
    "Reveal": FIXED,
    "Reveal in float64": FIXED,
    "Deep by TwoLayer": LAYERS,
    "Deep by Ensemble": {"lazy decay"},
    "Deep by Reveal": FIXED,
    "Deep by DeepLinear": set(),
    "Bayesian": POSTERIOR,
    "Bayesian of depth 2": POSTERIOR | {"elastic"},
    "BayesianLinear": POSTERIOR,
    "BayesianLinear of depth 2": POSTERIOR | {"elastic"},
    "train": set(),
    "train at depth 2": {"elastic"},
    "sample_posterior": POSTERIOR | FIXED,
    "sample_posterior at depth 2": POSTERIOR | FIXED | {"elastic"},
}
COUPLED = {"TwoLayer", "Bayesian", "BayesianLinear", "train", "sample_posterior"}


def refused(name: str, option: str) -> bool:
    coupled = name in COUPLED or option not in ("elastic", "elastic readout")
    return option in REFUSED[name] or option == "elastic readout" or not coupled


def is_posterior(name: str) -> bool:
    return "duration" in REFUSED[name]


def stage(name: str, of=TARGET, option: str = "plain") -> ak.Stage:
    duration = {} if is_posterior(name) else dict(duration=0.3)
    return ak.Stage(**dict(task=of, richness=1.0) | duration | OPTIONS[option])


def run(name: str, *stages: ak.Stage, **options) -> ak.Solution:
    record = {} if "sample_posterior" in name else dict(record=2)
    return MODELS[name](list(stages), **record | options)


@pytest.fixture(scope="module")
def first():
    """The source stage of every model, solved once."""
    return functools.cache(lambda name: run(name, stage(name, SOURCE), observe=[TARGET]))


@pytest.fixture(scope="module")
def second(first):
    """What follows with an option, solved once."""
    return functools.cache(
        lambda name, option: run(name, stage(name, option=option), after=first(name))
    )


def head(name: str) -> str:
    return "plain" if refused(name, "kept") else "kept"


every_model = pytest.mark.parametrize("name", MODELS)


def test_no_model_is_missing():
    for module in pkgutil.iter_modules(limits.__path__):
        importlib.import_module(f"adaptik.limits.{module.name}")
    assert {type(limit) for limit in LIMITS.values()} == set(Limit.__subclasses__())
    trained = {
        function
        for _, function in inspect.getmembers(networks, inspect.isfunction)
        if inspect.signature(function).return_annotation is ak.Solution
    }
    assert {model.func for model in MODELS.values()} == trained | {ak.solve}


@pytest.mark.parametrize("option", OPTIONS)
@every_model
def test_every_option_works_or_is_refused(first, second, name, option):
    if refused(name, option):
        with pytest.raises(ak.InputError, match="^stage 1: |no hidden layer") as refusal:
            second(name, option)
        assert "\n" not in str(refusal.value)
        with pytest.raises(ak.InputError):  # and in one call
            run(name, stage(name, SOURCE), stage(name, option=option))
        return
    solution = second(name, option)
    f = solution.predictions(solution.stages[-1].task)
    assert np.isfinite(f).all()
    assert np.isfinite(solution.records[-1].train_loss)
    assert f.shape[1] == solution.members == first(name).members
    if option not in ("plain", "outputs"):  # no option is passed over in silence
        plain = second(name, "plain").predictions(TARGET)[-1]
        assert np.abs(f[-1] - plain).max() > 1e-4


@every_model
def test_only_the_same_model_goes_on(first, name):
    """Refusals cost no computation, and name what made the solution."""
    for other in MODELS:
        same = made_by(first(name)) == made_by(first(other))
        for option in OPTIONS:
            if name != other:
                reason = "^after has .*; use the same$" if same else "^after must be a result of"
                with pytest.raises(ak.InputError, match=reason) as refusal:
                    run(name, stage(name, option=option), after=first(other))
                assert "\n" not in str(refusal.value)


@every_model
def test_two_calls_are_one(first, second, name):
    stages = [stage(name, SOURCE), stage(name, option=head(name))]
    whole, parts = run(name, *stages), second(name, head(name))
    assert [s.head for s in parts.stages] == [s.head for s in whole.stages]
    for i in (0, 1):
        for key, f in whole.records[i].predictions.items():
            np.testing.assert_allclose(parts.records[i].predictions[key], f, atol=1e-7)
    np.testing.assert_allclose(parts.predict(X).value, whole.predict(X).value, atol=1e-7)


@every_model
def test_a_loaded_solution_is_the_solution(first, second, name, tmp_path):
    first(name).save(tmp_path / "first.zip")
    loaded = ak.Solution.load(tmp_path / "first.zip")
    for kind in KERNEL_KINDS:
        np.testing.assert_array_equal(
            loaded.kernel(X, kind=kind).value, first(name).kernel(X, kind=kind).value
        )
    going_on = run(name, stage(name, option=head(name)), after=loaded)
    expected = second(name, head(name)).predictions(TARGET)
    np.testing.assert_allclose(going_on.predictions(TARGET), expected, atol=1e-7)


@pytest.mark.parametrize("option", ["plain", "outputs"])
@every_model
def test_kernels_are_gram_matrices(second, name, option):
    solution, outputs = second(name, option), 2 if option == "outputs" else 1
    assert solution.predict(X).value.shape == ((len(X), 2) if outputs == 2 else (len(X),))
    for kind in KERNEL_KINDS:
        K = np.asarray(solution.kernel(X, kind=kind).value)
        classes = () if kind == "feature" or outputs == 1 else (2, 2)
        assert K.shape == (len(X), len(X), *classes)
        assert solution.kernel(X, X[:2], kind).value.shape == (len(X), 2, *classes)
        if classes:
            K = K.transpose(0, 2, 1, 3).reshape(2 * len(X), -1)
        np.testing.assert_array_equal(K, K.T)
        assert np.linalg.eigvalsh(K)[0] > -1e-6 * np.trace(K)
        assert np.trace(K) > 0.1
    h = solution.preactivations(X)
    assert h.shape[::2] == (solution.members, len(X))


@every_model
def test_a_head_is_fresh_or_kept(first, second, name):
    if is_posterior(name):
        return
    before = first(name).predictions(TARGET)[-1]
    assert np.abs(before).max() > 1e-3
    np.testing.assert_allclose(second(name, "plain").predictions(TARGET)[0], 0, atol=1e-6)
    np.testing.assert_allclose(second(name, "kept").predictions(TARGET)[0], before, atol=1e-6)


@every_model
def test_what_is_recorded(first, name):
    source, record = stage(name, SOURCE), {} if "sample_posterior" in name else dict(record=5)
    snapshots = dict(snapshots=[(0, 0.1)])
    if is_posterior(name):
        assert first(name).records[0].times.tolist() == [0.0]
        refusals = [snapshots] if record else []
    else:
        solution = run(name, source, **record | snapshots)
        assert len(solution.records[0].times) == 5
        early = solution.predict(X, time=0.1).value
        assert 0 < np.linalg.norm(early) < np.linalg.norm(solution.predict(X).value)
        refusals = [dict(snapshots=[(0, 0.4)]), dict(snapshots=[(1, 0.1)]), dict(record=1)]
    named = [dict(after=first), dict(observe=["target"])]
    for wrong in (*refusals, *named):
        with pytest.raises(ak.InputError, match=next(iter(wrong))):
            run(name, source, **wrong)
    seed = "seeds" if "train" in name else "key"
    with pytest.raises(ak.InputError, match=seed):
        run(name, source, **{seed: -1})
    with pytest.raises(ak.InputError, match="stages must hold"):
        run(name, source, TARGET)


@pytest.mark.parametrize("name", LIMITS)
def test_a_tolerance_is_met(name):
    solution = run(name, stage(name, SOURCE), tol=0.4)
    assert solution.sampling_error <= 0.4
    with pytest.raises(ak.InputError, match="tol cannot refine"):
        run(name, stage(name), tol=0.4, after=solution)


@every_model
def test_refusals_come_before_any_computation(first, name):
    """Of two stages the second is refused: inputs without coordinates, a solution that diverged."""
    stranger = ak.Task(-2.0 * TARGET.X_test, [1.0, -1.0, 1.0], name="stranger")
    stages = [stage(name), stage(name, stranger)]
    if "observe=" in _refusal(name, stages, first(name)):
        assert hasattr(first(name).states[-1], "span")
    record = replace(first(name).records[0], outcome=ak.Outcome.DIVERGED)
    lost = replace(first(name), records=(record,))
    assert "after has diverged" in _refusal(name, stages, lost)


def _refusal(name, stages, after) -> str:
    try:
        run(name, *stages, after=after)
    except ak.InputError as refusal:
        return str(refusal)
    return ""


def test_limits_and_networks_are_not_mixed_up():
    stages = [stage("train", SOURCE)]
    with pytest.raises(ak.InputError, match=r"limit must be a limit .* adaptik\.train"):
        ak.solve(stages, ak.Network(16))
    with pytest.raises(ak.InputError, match="network must be an adaptik.Network"):
        ak.train(stages, ak.Linear())
    with pytest.raises(ak.InputError, match="y is zero everywhere"):
        ak.Task([[1.0, 2.0]], [0.0])
