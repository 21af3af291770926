"""The transfer study's own arithmetic: folds, errors, gains; and one point of a sweep."""

from typing import Any

import numpy as np
import pytest

import adaptik as ak
from adaptik.tasks.stages import target_stage
from adaptik.transfer import run
from adaptik.transfer.case import Case
from adaptik.transfer.options import TransferConfig
from adaptik.transfer.point import transfer_point
from adaptik.transfer.stopping import Path, Stopping, expected_stop, held_out_squares, times_of
from adaptik.transfer.verdict import answer, bootstrap_gain, folds, notes

RNG = np.random.default_rng(0)
SMALL: dict[str, Any] = dict(n_source=12, n_target=12, n_test=20, particles=96, replicates=2)


@pytest.mark.parametrize("count", [2, 3])
def test_folds_hold_out_every_sample_once_and_train_on_the_others(count):
    target = ak.tasks.load("digits", classes=(3, 5), n_train=12, n_test=4)
    parts = folds(target, count, seed=1)
    held_out = np.concatenate([part.X_test for part in parts])
    assert sorted(map(bytes, held_out)) == sorted(map(bytes, target.X))
    for part in parts:
        trained, tested = ({bytes(row) for row in X} for X in (part.X, part.X_test))
        assert not trained & tested and len(trained | tested) == 12
        assert abs(part.y_test.sum()) <= 1 + 12 % count  # classes are balanced


def case(losses, samples=40, members=6, splits=1, noise=0.1) -> Case:
    """A case whose members and samples scatter around a loss."""
    made = Case("lazy", 1.0, 0.0)
    for _ in range(splits):
        ways = (losses + noise * RNG.standard_normal((1, n)) for n in (members, samples, samples))
        made.paths.append(a_path(*ways))
        made.outcomes.append(ak.Outcome.CONVERGED)
    return made


def a_path(members, samples, held_out, expected=None) -> Path:
    times = 2.0 ** np.arange(len(members))
    return Path(times, members, samples, held_out, Stopping(held_out, expected))


@pytest.mark.parametrize("splits", [1, 5])
def test_errors_of_a_row_are_those_of_its_means(splits):
    """Over many studies the reported errors are the scatter of what they are reported of."""
    rows = [case(0.5, splits=splits).row() for _ in range(400)]
    scatter = np.std([row.test_loss for row in rows])
    reported = np.sqrt(np.mean([row.test_loss_se**2 for row in rows]))
    assert scatter == pytest.approx(0.1 / np.sqrt(6 * splits), rel=0.12)
    assert reported == pytest.approx(scatter, rel=0.15)  # a factor sqrt 2 would be 0.4
    held_out = np.std([row.cv_loss for row in rows])
    assert np.mean([row.cv_loss_se for row in rows]) == pytest.approx(held_out, rel=0.15)
    row = case(0.5).row()
    assert row.network_test_loss is None and row.source_loss_before is None


def test_splits_of_a_row_end_as_the_worst_of_them():
    made = case(0.5, splits=2)
    assert made.row().outcome == "converged"
    made.outcomes = [ak.Outcome.OUT_OF_STEPS, ak.Outcome.COLLAPSED]
    row = made.row()
    assert row.outcome == ak.Outcome.OUT_OF_STEPS.value
    config = TransferConfig(check_seeds=0)
    assert notes([row], config) == ("lazy, source richness 1.0: out of steps before converging",)
    made.outcomes = [ak.Outcome.COLLAPSED, ak.Outcome.COLLAPSED]  # as weight decay does
    assert notes([made.row()], config) == ()


def test_errors_of_networks_are_their_spread():
    made = case(0.5)
    made.network_losses = [np.array([0.4, 0.5, 0.6])]
    row = made.row()
    assert row.network_test_loss == pytest.approx(0.5)
    assert row.network_test_loss_se == pytest.approx(0.1 / np.sqrt(3))
    made.network_losses = [made.member_losses[0] + 1.0]
    assert made.row().difference_in_se > 4  # networks less theory


def test_networks_are_compared_with_the_theory_of_their_own_split():
    """Draws of the data differ far more than networks of one draw do."""
    made = case(0.5, splits=2, noise=0.01)
    made.paths[1].members[:] += 1.0
    made.network_losses = [m + 0.01 * RNG.standard_normal(6) for m in made.member_losses]
    row = made.row()
    assert row.network_test_loss == pytest.approx(row.test_loss, abs=0.01)
    spreads = [m.var(ddof=1) / 6 for m in made.network_losses]
    assert row.network_test_loss_se == pytest.approx(np.sqrt(sum(spreads)) / 2)
    assert abs(row.difference_in_se) < 3
    made.network_losses[1] += 0.1  # in all members pooled, lost in a spread of 0.5
    assert made.row().difference_in_se > 3
    made.network_losses.pop()  # interrupted after the first split, which is compared with itself
    assert abs(made.row().difference_in_se) < 3


def test_every_split_has_networks_of_its_own():
    config = TransferConfig(
        **SMALL,
        richness=(0.0,),
        target_richness=(0.0,),
        folds=2,
        splits=2,
        check_width=32,
        check_seeds=2,
        stopping="end",
    )
    study = run(config)
    losses = []
    for split, seeds in enumerate(([0, 1], [2, 3])):
        _, target = ak.tasks.load_pair(
            config.source, config.target, n_source=12, n_target=12, n_test=20, seed=split
        )
        limit = ak.TwoLayer("relu", particles=96, replicates=2)
        theory = ak.solve([ak.Stage(target, 0.0)], limit, record=2)  # networks take its time
        network = ak.train(theory.timed_stages, ak.Network(32), seeds=seeds, record=2)
        losses.append(network.losses(target)[-1])
    scratch = study.rows[0]
    assert scratch.mode == "scratch"
    assert scratch.network_test_loss == pytest.approx(np.mean(losses), rel=1e-6)
    (note,) = study.notes
    assert "all rows share 4 networks of width 32" in note


@pytest.mark.parametrize(
    ("helps", "gain", "said"),
    [
        (True, 0.25, "Yes: pretraining on A helps on B. It lowers the test loss by 25.0 ± 3.0 %"),
        (False, -0.25, "No: pretraining on A hurts on B. It raises the test loss by 25.0 ± 3.0 %"),
        (None, 0.02, "It changes the test loss by -2.0 ± 3.0 %"),
    ],
)
def test_the_verdict_answers_before_it_explains(helps, gain, said):
    assert said in answer(helps, gain, 0.03, "A", "B")


@pytest.mark.parametrize("splits", [1, 4])
def test_gains_are_positive_where_pretraining_helps_and_scatter_as_they_say(splits):
    better, worse = case(0.5, splits=splits, noise=0.05), case(0.8, splits=splits, noise=0.05)
    gains, gain = bootstrap_gain(better, worse, seed=0)
    assert gain == pytest.approx(1 - 0.5 / 0.8, abs=0.02) and np.mean(gains) == pytest.approx(
        gain, abs=0.02
    )
    assert bootstrap_gain(worse, better, seed=0)[1] < -0.4
    # Of independent studies: samples (40) and members (6) both scatter.
    found = [
        bootstrap_gain(
            case(0.5, splits=splits, noise=0.05), case(0.8, splits=splits, noise=0.05), 0
        )
        for _ in range(20)
    ]
    own = np.sqrt(0.05**2 / 40 + 0.05**2 / 6) / np.sqrt(splits)
    expected = np.hypot(own / 0.8, own * 0.5 / 0.8**2)
    assert np.mean([g.std(ddof=1) for g, _ in found]) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_a_point_is_a_solve_and_training_of_its_stages(head):
    pair = ("digits:3,5", "digits:8,9")  # of which one is forgotten for the other
    found = transfer_point(
        *pair, **SMALL, mode="lazy", source_richness=0.0, head=head, network_width=32,
        network_seeds=2, split=1, key=3,
    )  # fmt: skip
    source, target = ak.tasks.load_pair(*pair, n_source=12, n_target=12, n_test=20, seed=1)
    stages = [ak.Stage(source, 0.0), ak.Stage(target, 0.0, head=head)]
    theory = ak.solve(stages, ak.TwoLayer("relu", particles=96, replicates=2), key=3, record=2)
    network = ak.train(stages, ak.Network(32), seeds=[3, 4], record=2)
    for name, solution in (("", theory), ("network_", network)):
        loss = solution.loss(target)
        assert found[f"{name}loss"] == pytest.approx(float(loss), rel=1e-9)
        assert found[f"{name}loss_se"] == pytest.approx(float(loss.standard_error), abs=1e-12)
    assert found["source_loss_before"] == pytest.approx(float(theory.loss(source, stage=0)))
    assert found["source_loss_after"] == pytest.approx(float(theory.loss(source)))
    assert found["source_loss_after"] > found["source_loss_before"] + 0.01


def test_a_stage_stops_where_refits_are_best_only_if_they_are_sure_of_it():
    rng = np.random.default_rng(3)
    falls = np.array([0.9, 0.5, 0.3, 0.4])[:, None] + np.zeros((4, 30))
    scatter = rng.standard_normal((4, 30))
    sure, unsure = falls + 0.1 * scatter, falls + 3.0 * scatter
    assert Stopping(sure, expected=1).stop == 2 and Stopping(sure, expected=3).stop == 2
    assert Stopping(unsure - unsure.mean(1, keepdims=True) + falls, expected=1).stop == 1
    assert Stopping(sure).stop == 3  # the end, whatever refits say
    # Samples drawn anew choose anew: of those that say so, the last.
    split = np.where(np.arange(30) < 15, sure, sure[::-1])
    assert (
        Stopping(split, 1).on(np.arange(15)) == 2 and Stopping(split, 1).on(np.arange(15, 30)) == 1
    )


def test_the_choice_of_the_time_is_in_the_error_of_the_gain():
    rng = np.random.default_rng(4)
    samples = np.array([0.2, 0.8])[:, None] + np.zeros((2, 40))
    draws = 0.02 * rng.standard_normal((2, 12))
    torn = np.array([0.5, 0.5])[:, None] + np.where(np.arange(12) % 2, 0.3, -0.25) * [[1], [-1]]
    errors = []
    for held_out in (samples[:, :12] + draws, torn + draws):
        made = Case("lazy", 1.0, 0.0, paths=[a_path(samples[:, :6], samples, held_out, 0)])
        alone = case(1.0, noise=0.0, samples=40)
        alone.paths = [a_path(*(np.ones((2, n)) for n in (6, 40, 12)), 0)]
        gains, gain = bootstrap_gain(made, alone, seed=0)
        assert gain == pytest.approx(0.8)
        errors.append(gains.std())
    assert errors[0] < 1e-9 and errors[1] > 0.1


@pytest.mark.parametrize("mode", ["readout", "lazy", "rich"])
def test_stages_are_expected_to_stop_when_the_mean_mode_is_learned(mode):
    source, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=12, n_target=16)
    limit = ak.TwoLayer("relu", particles=96, replicates=2)
    stage = target_stage(target, mode, 1.0, "fresh")
    before = ak.solve([ak.Stage(source, 2.0)], limit, observe=[target])
    after = ak.solve([stage], limit, after=before, observe=[target], snapshots=[(1, 0.0)])
    at, times = expected_stop(after, stage, target), times_of(after)
    if mode == "readout":  # of the source's features
        K = before.kernel(target.X).value
    else:  # a fresh readout has <z^2> = 1, relu <phi'^2> = 1/2 of half of the neurons
        K = before.kernel(target.X).value + np.diag(np.sum(target.X**2, 1) / target.dimension) / 2
    wanted = target.n_train / np.mean(np.diag(K))
    assert 0 < at < len(times) - 1 and 0.7 < times[at] / wanted < 1.42  # times double
    assert times[at] < after.records[-1].duration


def test_refits_are_judged_at_the_times_of_the_fit():
    _, target = ak.tasks.load_pair("digits:1,4", "digits:1,7", n_source=12, n_target=16)
    limit = ak.TwoLayer("relu", particles=96, replicates=2)
    fold = folds(target, 2, seed=0)[0]
    whole, refit = (ak.solve([ak.Stage(t, 0.0)], limit, observe=[fold]) for t in (target, fold))
    times = times_of(whole)
    squares = held_out_squares(refit, fold, times)
    f, own = refit.predictions(fold).mean(1), refit.records[-1].times
    for i, time in enumerate(times[:-1]):
        j = np.flatnonzero(np.isclose(own, time))
        expected = f[j[0]] if len(j) else f[-1]
        np.testing.assert_allclose(squares[i], (expected - fold.y_test) ** 2)
    np.testing.assert_allclose(squares[-1], (f[-1] - fold.y_test) ** 2)
    assert squares.shape == (len(times), 8, 1)


def test_rows_are_of_where_stages_stop():
    """The readout's row against gradient flow on its kernel for the time that it says."""
    asked: dict[str, Any] = dict(SMALL, richness=(2.0,), target_richness=(0.0,), check_seeds=0)
    study = run(TransferConfig(**asked, folds=3))
    ends = run(TransferConfig(**asked, folds=3, stopping="end"))
    row, at_end = study.rows[1], ends.rows[1]
    assert row.mode == at_end.mode == "readout" and row.stop < at_end.stop
    assert row.test_loss_at_end == at_end.test_loss_at_end == at_end.test_loss != row.test_loss
    assert "as is when training stops" in study.verdict.sentence
    assert "training stops" not in ends.verdict.sentence
    source, target = ak.tasks.load_pair(
        "digits:1,4", "digits:1,7", **dict(n_source=12, n_target=12, n_test=20)
    )
    limit = ak.TwoLayer("relu", particles=96, replicates=2)
    before = ak.solve([ak.Stage(source, 2.0)], limit, observe=[target])
    stage = ak.Stage(target, 0.0, trains="readout", duration=row.stop)
    again = ak.solve([stage], limit, after=before)
    assert float(again.loss(target)) == pytest.approx(row.test_loss, rel=1e-4)
    assert float(again.accuracy(target)) == pytest.approx(row.accuracy)
