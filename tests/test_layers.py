"""Stages that keep some hidden layers: three independent routes, identities, refusals."""

import numpy as np
import pytest

import adaptik as ak

SOURCE, TARGET = ak.tasks.hermite_pair(1, 2, 0.8, n_source=10, n_target=8, dimension=6, n_test=40)
FIRST = ak.Stage(SOURCE, 1.0, duration=3.0)
SECOND = {
    "frozen, fresh above": dict(trains=1, fresh_above=1),
    "fresh above": dict(fresh_above=1),
    "frozen, kept head, decay": dict(trains=2, head="kept", weight_decay=0.2),
    "frozen, lazy": dict(richness=0.0, trains=1, fresh_above=2),
    "frozen, lazy under decay": dict(richness=0.0, trains=1, weight_decay=0.2),
}


def stages(**second) -> list[ak.Stage]:
    return [FIRST, ak.Stage(TARGET, **(dict(richness=1.0, duration=3.0) | second))]


def reduced_chi_square(a: ak.Solution, b: ak.Solution) -> float:
    gap = a.predict(TARGET.X_test) - b.predict(TARGET.X_test)
    return float(np.mean(gap.value**2) / np.mean(gap.standard_error**2))


@pytest.mark.evidence
@pytest.mark.parametrize("name", SECOND)
def test_linear_networks_with_kept_layers_are_their_limit(name):
    plan = stages(**SECOND[name])
    exact = ak.solve(plan, ak.DeepLinear(3), record=2)
    size = np.std(exact.predict(TARGET.X_test).value)
    others = [ak.train(plan, ak.Network(256, "linear", 3), seeds=4, record=2)]
    if name != "frozen, lazy under decay":
        limit = ak.Ensemble(3, "linear", width=128, replicates=6)
        others.append(ak.solve(plan, limit, record=2))
    for other in others:
        gap = other.predict(TARGET.X_test).value - exact.predict(TARGET.X_test).value
        assert np.sqrt(np.mean(gap**2)) < 0.12 * size
        assert reduced_chi_square(other, exact) < 4  # freezing or drawing other layers: over 20


@pytest.mark.parametrize("second", [*list(SECOND)[:3], "all anew", "readout under decay"])
def test_revealed_matrices_of_kept_layers_are_exact(second):
    more = {
        "all anew": dict(fresh_above=0),
        "readout under decay": dict(trains=3, weight_decay=0.2),
    }
    plan = stages(**(SECOND | more)[second])
    exact = ak.solve(plan, ak.DeepLinear(3), record=2)
    limit = ak.Reveal(3, "linear", 512, 2, tol=1e-5, reveal_tol=1e-4)
    seen = ak.solve(plan, limit, record=2)
    f = exact.predict(TARGET.X_test).value
    np.testing.assert_allclose(seen.predict(TARGET.X_test).value, f, atol=2e-3 * np.abs(f).max())
    for layer in (1, 2, 3):
        for kind in ("feature", "gradient"):
            found, known = (s.kernel(TARGET.X, kind=kind, layer=layer).value for s in (seen, exact))
            assert np.linalg.norm(found - known) < 2e-3 * np.linalg.norm(known)


@pytest.mark.parametrize(
    "model",
    [
        "exact",
        *(pytest.param(m, marks=pytest.mark.evidence) for m in ("ensemble", "network")),
        "reveal",
    ],
)
def test_frozen_features_stay_and_fresh_layers_start_anew(model):
    plan = stages(trains=1, fresh_above=1, weight_decay=0.1)
    more = dict(snapshots=[(1, 0.0)], record=2)
    if model == "network":
        solution = ak.train(plan, ak.Network(256, "linear", 2), seeds=4, **more)
    else:
        limits = dict(exact=ak.DeepLinear(2), ensemble=ak.Ensemble(2, "linear", 128))
        limits |= dict(reveal=ak.Reveal(2, "linear", 256, 2))
        solution = ak.solve(plan, limits[model], **more)

    def feature(layer, **when):
        return solution.kernel(TARGET.X, layer=layer, **when).value

    before, at_start = (feature(1, stage=0), feature(1, stage=1, time=0.0))
    np.testing.assert_allclose(feature(1), before, atol=1e-6 * np.abs(before).max())
    np.testing.assert_allclose(at_start, before, atol=1e-6 * np.abs(before).max())
    # A new linear layer has the kernel of the layer below; training has changed it.
    new, old = feature(2, stage=1, time=0.0), feature(2, stage=0)
    size = np.linalg.norm(before)
    assert np.linalg.norm(new - before) < 0.12 * size
    assert np.linalg.norm(old - before) > 0.3 * size
    assert np.linalg.norm(feature(2) - new) > 0.1 * size


@pytest.mark.evidence
@pytest.mark.parametrize("second", [dict(head="fresh"), dict(fresh_above=2)])
def test_old_layers_meet_the_gradients_of_new_ones(second):
    """Met along samples before, the matrices of an ensemble would return too little: 5 % each."""
    plan, more = stages(**second), dict(record=2, snapshots=[(1, 0.0)])
    exact = ak.solve(plan, ak.DeepLinear(3), **more)
    dense = ak.solve(plan, ak.Ensemble(3, "linear", width=128, replicates=8), **more)

    def lengths(layer, **when):
        seen, known = (
            s.kernel(TARGET.X, kind="gradient", layer=layer, **when) for s in (dense, exact)
        )
        return seen.value.mean() / known.value.mean()

    np.testing.assert_allclose([lengths(k, time=0.0) for k in (1, 2, 3)], 1.0, atol=2e-3)
    assert abs(lengths(1) - 1) < 0.08  # at the end of training
    kept = plan[1].fresh_above or 3
    for layer in range(1, kept + 1):  # what is kept does to samples what it did
        now, before = (
            dense.kernel(TARGET.X, layer=layer, **at).value
            for at in (dict(time=0.0), dict(stage=0))
        )
        np.testing.assert_allclose(now, before, atol=1e-5 * np.abs(before).max())


MODELS = [ak.DeepLinear(2), ak.Ensemble(2, "tanh", 64, 2), ak.Network(64, "tanh", 2)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    ("one", "same"),
    [
        (dict(trains=2), dict(trains="readout")),
        (dict(fresh_above=2, richness=0.0), dict(head="fresh", richness=0.0)),
    ],
)
def test_the_ends_of_the_range_are_the_named_choices(model, one, same):
    run = ak.train if isinstance(model, ak.Network) else ak.solve
    seen, expected = (
        run(stages(**plan), model, record=2).predict(TARGET.X_test).value for plan in (one, same)
    )
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(seen, expected, atol=0.01 * np.std(expected))  # of time steps


def test_a_wholly_fresh_network_forgets_the_source():
    alone = ak.solve(stages()[1:], ak.DeepLinear(2, tol=1e-6), record=2)
    after = ak.solve(stages(fresh_above=0), ak.DeepLinear(2, tol=1e-6), record=2)
    f = alone.predict(TARGET.X_test).value
    np.testing.assert_allclose(after.predict(TARGET.X_test).value, f, atol=1e-4 * np.std(f))


@pytest.mark.evidence
@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.wide)])
@pytest.mark.parametrize("second", [dict(trains=1, fresh_above=1), dict(fresh_above=1)])
def test_nonlinear_networks_with_kept_layers_are_their_limit(activation, second):
    plan = stages(**second)
    theory = ak.solve(plan, ak.Deep(2, activation, width=256, replicates=6), record=2)
    network = ak.train(plan, ak.Network(768, activation, 2), seeds=6, record=2)
    assert np.std(theory.predict(TARGET.X_test).value) > 0.1
    assert reduced_chi_square(network, theory) < 3
    for layer in (1, 2):
        seen, known = (s.kernel(TARGET.X, layer=layer) for s in (network, theory))
        error = np.linalg.norm((seen - known).standard_error)
        assert error < 0.1 * np.linalg.norm(known.value)
        assert np.linalg.norm((seen - known).value) < 2 * error


def test_layers_without_a_meaning_are_refused():
    for bad, names in (
        (dict(trains=-1), "trains"),
        (dict(trains=True), "trains"),
        (dict(trains=1.5), "trains"),
        (dict(fresh_above=-1), "fresh_above"),
        (dict(fresh_above="all"), "fresh_above"),
        (dict(fresh_above=1, head="kept"), "fresh_above=1 draws hidden layers below a kept"),
    ):
        with pytest.raises(ak.InputError, match=names):
            stages(**bad)
    with pytest.raises(ak.InputError, match="stage 0: fresh_above"):
        ak.solve([ak.Stage(SOURCE, 1.0, fresh_above=1)], ak.DeepLinear(2))
    solved = {
        limit: ak.solve([ak.Stage(SOURCE, 1.0, duration=0.1)], limit, observe=[TARGET], record=2)
        for limit in (*MODELS[:2], ak.Reveal(2, "tanh", 128, 2), ak.TwoLayer("tanh", 64, 2))
    }
    for layer in ("trains", "fresh_above"):
        second = stages(**{layer: 3})
        for limit in (*MODELS[:2], ak.Reveal(2, "tanh", 64, 2)):
            with pytest.raises(ak.InputError, match=f"{layer}=3 is no hidden layer: .* depth 2"):
                ak.solve(second, limit)
        with pytest.raises(ak.InputError, match=f"{layer}=3 is no hidden layer"):
            ak.train(second, MODELS[2])
        for limit in (ak.TwoLayer("tanh"), ak.Linear()):
            with pytest.raises(ak.InputError, match=f"{layer}=1 is not computed .* Ensemble"):
                ak.solve(stages(**{layer: 1}), limit)
        for limit, before in solved.items():  # the stage may come in a later call
            with pytest.raises(ak.InputError, match=f"{layer}=3"):
                ak.solve(second[1:], limit, after=before)
