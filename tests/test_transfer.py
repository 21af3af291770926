"""The transfer study's own arithmetic: folds, errors, gains; and one point of a sweep."""

from typing import Any

import numpy as np
import pytest

import adaptik as ak
from adaptik.transfer import run
from adaptik.transfer.case import Case
from adaptik.transfer.options import TransferConfig
from adaptik.transfer.point import transfer_point
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
        members_of_split = losses + noise * RNG.standard_normal(members)
        made.member_losses.append(members_of_split)
        made.sample_losses.append(losses + noise * RNG.standard_normal(samples))
        made.held_out.append(losses + noise * RNG.standard_normal(samples))
        made.outcomes.append(ak.Outcome.CONVERGED)
    return made


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
    made.member_losses[1] += 1.0
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
