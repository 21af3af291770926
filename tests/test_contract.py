"""What every limit and every network promises: each option works or is refused in one line."""

import doctest
import functools
import importlib
import inspect
import pkgutil
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tests.models import (
    BIASED,
    DEEPER,
    LABELS,
    LIKE_OTHERS,
    LIMITS,
    MODELS,
    OPTIONS,
    OUTSIDE,
    SLOW,
    SOURCE,
    TARGET,
    X,
    base,
    is_posterior,
    refused,
    run,
    stage,
    task,
)

import adaptik as ak
from adaptik import limits, networks
from adaptik.limits import AbstractLimit
from adaptik.limits.base import OPTIONS as OPTIONS_OF_STAGES
from adaptik.limits.base import every_limit
from adaptik.solution import KERNEL_KINDS, AbstractState, SpanState
from adaptik.solution.continuing import made_by


@pytest.fixture(scope="module")
def first():
    """The source stage of every model, solved once."""
    return functools.cache(lambda name: run(name, stage(name, SOURCE), observe=[TARGET]))


@pytest.fixture(scope="module")
def second(first):
    """What follows with an option, solved once."""

    def solved(name, option):
        then = stage(name, option=option)
        if then.rank is not None:  # whose directions need room from the start
            return run(name, stage(name, SOURCE), then)
        return run(name, then, after=first(name))

    return functools.cache(solved)


def head(name: str) -> str:
    return "plain" if refused(name, "kept") else "kept"


def cases(*options: str):
    """All models, with all options; as evidence where programs take long to compile."""

    def marks(name: str, slow: bool):
        wide = [pytest.mark.wide] * (name in LIKE_OTHERS)
        return [pytest.mark.evidence, *wide] if slow or wide or name in DEEPER else []

    if not options:
        return [pytest.param(name, marks=marks(name, slow=False)) for name in MODELS]
    return [
        pytest.param(name, option, marks=marks(name, (name, option) in SLOW))
        for name in MODELS
        for option in options
    ]


every_model = pytest.mark.parametrize("name", cases())


def test_no_model_is_missing():
    for module in pkgutil.walk_packages(limits.__path__, "adaptik.limits."):
        importlib.import_module(module.name)
    assert {type(limit) for limit in LIMITS.values()} == set(every_limit())
    trained = {
        function
        for _, function in inspect.getmembers(networks, inspect.isfunction)
        if inspect.signature(function).return_annotation is ak.Solution
    }
    assert {model.func for model in MODELS.values()} == trained | {ak.solve}


def test_the_page_about_a_new_limit_says_what_is_so():
    page = Path(__file__).parents[1] / "docs" / "add_a_limit.md"
    told = doctest.testfile(str(page), module_relative=False, globs=dict(vars(sys.modules["iid"])))
    assert told == (0, 7)


def test_classes_are_abstract_or_final():
    """Whoever reads a limit or a state finds what it does in its own class or in the contract."""

    def derived(cls: type):
        for below in cls.__subclasses__():
            yield below
            yield from derived(below)

    for contract in (AbstractLimit, AbstractState):
        classes = set(derived(contract))
        assert len(classes) > 6
        for cls in classes:
            assert inspect.isabstract(cls) or not cls.__subclasses__(), cls
    for limit in every_limit():
        assert limit.computes <= OPTIONS_OF_STAGES.keys()
        assert limit.samples in {"", *(field.name for field in fields(limit))}


@pytest.mark.parametrize(("name", "option"), cases(*OPTIONS))
def test_every_option_works_or_is_refused(first, second, name, option):
    if refused(name, option):
        with pytest.raises(ak.InputError, match=r"^stage 1: |give a (finite )?duration") as refusal:
            second(name, option)
        assert "\n" not in str(refusal.value)
        if not name.startswith("Deep by"):  # which takes another method in one call
            with pytest.raises(ak.InputError):
                run(name, stage(name, SOURCE), stage(name, option=option))
        return
    solution = second(name, option)
    f = solution.predictions(solution.stages[-1].tasks[0])
    assert np.isfinite(f).all()
    assert np.isfinite(solution.records[-1].train_loss)
    assert f.shape[1] == solution.members == first(name).members
    same = {"plain", "outputs"} | (
        {"layers anew"} if name.removesuffix(BIASED) in ("train", "train convolution") else set()
    )
    if option not in same:  # no option is passed over in silence
        without = second(name, base(name, option)).predictions(TARGET)[-1]
        assert np.abs(f[-1] - without).max() > 1e-6


@every_model
def test_only_the_same_model_goes_on(first, name):
    """Refusals cost no computation, and name what made the solution."""
    for other in MODELS.keys() - DEEPER:
        same = made_by(first(name)) == made_by(first(other))
        for option in OPTIONS:
            if name != other:
                reason = "^after has .*; use the same$" if same else "^after must be a result of"
                with pytest.raises(ak.InputError, match=reason) as refusal:
                    run(name, stage("train", option=option), after=first(other))
                assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", [case for case in cases() if case.values[0] in LIMITS])
def test_only_a_limits_own_states_are_gone_on_from(first, name):
    """Of a solution that says to be by the limit, but holds the networks of another kind."""
    given, limit = first(name), LIMITS[name]
    assert isinstance(given.states[-1], limit.state)
    foreign = replace(given, states=first("train").states)
    with pytest.raises(ak.InputError, match=r"^after ends in a NetworkState, .* does not go on"):
        run(name, stage(name), after=foreign)


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
        expected = first(name).kernel(X, kind=kind).value
        np.testing.assert_allclose(loaded.kernel(X, kind=kind).value, expected, atol=1e-6)
    going_on = run(name, stage(name, option=head(name)), after=loaded)
    expected = second(name, head(name)).predictions(TARGET)
    np.testing.assert_allclose(going_on.predictions(TARGET), expected, atol=1e-7)


@pytest.mark.parametrize(("name", "option"), cases("plain", "outputs"))
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


@pytest.mark.parametrize("scale", [1e-12, pytest.param(1e12, marks=pytest.mark.evidence)])
@every_model
def test_labels_in_another_unit_are_the_same_problem(name, scale):
    """Of two stages with labels of different sizes, the readout kept in between."""

    def solved(s):
        stages = []
        for of, size, option in ((SOURCE, s, "plain"), (TARGET, 2.5 * s, head(name))):
            one = stage(name, of, option)
            y, y_test = size * of.y, size * of.y_test
            stages.append(replace(one, task=replace(of, y=y, y_test=y_test), richness=0.8 / s))
        return run(name, *stages)

    one, other = solved(1.0), solved(scale)
    exact = name.removesuffix(BIASED) in {
        "Linear",
        "DeepLinear",
        "Deep by DeepLinear",
        "Reveal in float64",
    }
    atol = 1e-6 if exact or is_posterior(name) else 1e-5
    assert other.outcome is one.outcome
    for ours, theirs in zip(one.records, other.records, strict=True):
        np.testing.assert_allclose(theirs.times, ours.times, rtol=1e-6)
        assert theirs.train_loss == pytest.approx(scale**2 * ours.train_loss, rel=1e-3)
        for key, f in ours.predictions.items():
            np.testing.assert_allclose(theirs.predictions[key] / scale, f, atol=atol)
    for i in (0, 1):
        expected = one.predict(X, stage=i)
        for part in ("value", "standard_error"):
            found = getattr(other.predict(X, stage=i), part) / scale
            np.testing.assert_allclose(found, getattr(expected, part), atol=10 * atol)
        for kind in KERNEL_KINDS if "Reveal" not in name else ():  # which draws fields of inputs
            ours, theirs = (s.kernel(TARGET.X, kind=kind, stage=i).value for s in (one, other))
            np.testing.assert_allclose(theirs, ours, atol=10 * atol)


@every_model
def test_requests_without_a_meaning_are_refused(first, name):
    source, wrong = stage(name, SOURCE), [dict(after=first), dict(observe=["target"])]
    other = ak.Task(SOURCE.X[:, :2], LABELS, name="of another dimension")
    wrong += [dict(observe=[other]), {"seeds" if "train" in name else "key": -1}]
    if "sample_posterior" not in name:
        wrong += [dict(record=1), dict(snapshots=[(1, 0.1)]), dict(snapshots=[(0, 0.4)])]
    for request in wrong:
        with pytest.raises(ak.InputError, match=next(iter(request))):
            run(name, source, **request)
    with pytest.raises(ak.InputError, match="stages must hold"):
        run(name, TARGET, source)


@pytest.mark.parametrize(("name", "option"), cases("snapshots"))
def test_snapshots_are_states(name, option):
    if "sample_posterior" in name:
        return
    wanted = [(0, 0.1), (0, 0.05)]  # in any order
    ask = partial(run, name, stage(name, SOURCE), observe=[TARGET], snapshots=wanted)
    if is_posterior(name):
        with pytest.raises(ak.InputError, match="snapshots"):
            ask()
        return
    solution = ask()
    assert len(solution.records[0].times) == 3
    sizes = [np.linalg.norm(solution.predict(X, time=t).value) for t in (0.05, 0.1, None)]
    assert 0 < sizes[0] < sizes[2] and 0 < sizes[1] < sizes[2]


@pytest.mark.parametrize("name", [case for case in cases() if case.values[0] in LIMITS])
def test_a_tolerance_is_met(first, name):
    solution = run(name, stage(name, SOURCE), observe=[TARGET], tol=0.4)
    assert solution.sampling_error <= 0.4
    with pytest.raises(ak.InputError, match="tol cannot refine"):
        run(name, stage(name), tol=0.4, after=first(name))


@every_model
def test_refusals_come_before_any_computation(first, name, monkeypatch):
    """Of two stages the second is refused, for its inputs; all are after what has diverged."""
    before, stages = first(name), [stage(name), stage(name, task("stranger", OUTSIDE))]
    for limit in every_limit():
        monkeypatch.setattr(limit, "advance", None)
    if isinstance(before.states[-1], SpanState):
        with pytest.raises(ak.InputError, match=r"stage 2: .*observe="):
            run(name, *stages, after=before)
    record = replace(before.records[0], outcome=ak.Outcome.DIVERGED)
    with pytest.raises(ak.InputError, match="after has diverged"):
        run(name, *stages, after=replace(before, records=(record,)))


def model_of(name):
    """The argument of ``MODELS[name]`` that is the limit or network, and what it is."""
    given = MODELS[name].keywords
    return next((key, given[key]) for key in ("limit", "network") if key in given)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in MODELS
        if BIASED not in n and "activation" in {f.name for f in fields(model_of(n)[1])}
    ],
)
def test_activations_without_values_are_refused_before_any_computation(name, monkeypatch):
    key, model = model_of(name)
    for limit in every_limit():
        monkeypatch.setattr(limit, "advance", None)
    monkeypatch.setitem(MODELS[name].keywords, key, replace(model, activation=jnp.log))
    with pytest.raises(ak.InputError, match=r"activation 'log' (gives nan at h = -|grows faster)"):
        run(name, stage(name, SOURCE))


def test_limits_and_networks_are_not_mixed_up():
    stages = [stage("train", SOURCE)]
    with pytest.raises(ak.InputError, match=r"limit must be a limit .* adaptik\.train"):
        ak.solve(stages, ak.Network(16))
    with pytest.raises(ak.InputError, match="network must be an"):
        ak.train(stages, ak.Linear())
    with pytest.raises(ak.InputError, match="y is zero everywhere"):
        ak.Task([[1.0, 2.0]], [0.0])
