"""Which of several sources is best: the order, its probabilities, what is typed and written."""

import json
from typing import Any

import numpy as np
import pytest

import adaptik as ak
from adaptik.transfer import TransferConfig, comparison, rank
from adaptik.transfer.case import Case
from adaptik.transfer.stopping import Path, Stopping
from adaptik.transfer.verdict import BOOTSTRAPS, bootstrap_gain, bootstrap_losses

FEW: dict[str, Any] = dict(
    n_source=12, n_target=12, n_test=20, particles=160, replicates=2, folds=2, check_seeds=0
)
ASKED: dict[str, Any] = dict(FEW, richness=(2.0,), target_richness=(0.0,))
TYPED = (
    "--n-source 12 --n-target 12 --n-test 20 --particles 160 --replicates 2 --folds 2 "
    "--check-seeds 0 --richness 2 --target-richness 0"
)


@pytest.fixture(scope="module")
def ranked():
    sources = ("digits:1,4", "digits:0,5", "digits:1,7")
    return rank([TransferConfig(source=source, **ASKED) for source in sources])


def test_the_order_is_that_of_gains_by_what_refits_chose(ranked):
    for study in ranked.studies:
        best = min((r for r in study.rows if r.source_richness), key=lambda r: r.cv_loss)
        found = next(one for one in ranked.ranked if one.source == study.config["source"])
        assert (found.mode, found.source_richness) == (best.mode, 2.0)
        assert found.gain == pytest.approx(study.verdict.gain)
        assert found.gain_se == pytest.approx(study.verdict.gain_se, rel=0.15)
    gains = [one.gain for one in ranked.ranked]
    assert gains == sorted(gains, reverse=True) and ranked.complete
    (none,) = (one for one in ranked.ranked if one.source is None)
    assert none.gain == none.gain_se == 0
    assert sum(one.best for one in ranked.ranked) == pytest.approx(1)
    first = ranked.ranked[0]
    assert first.best == max(one.best for one in ranked.ranked)
    assert f"pretraining on {first.source}, with probability" in ranked.sentence


def test_redraws_are_common_to_all_cases():
    rng = np.random.default_rng(0)
    hard = rng.exponential(1.0, 50)  # samples differ far more than cases do

    def case(size):
        samples = size * hard[None]
        path = Path(np.ones(1), np.full((1, 4), size), samples, samples[:, :8], Stopping(samples))
        return Case("lazy", 1.0, 0.0, paths=[path])

    losses = bootstrap_losses([case(1.0), case(1.02), case(2.0)], seed=1)
    assert losses.shape == (BOOTSTRAPS, 3)
    np.testing.assert_allclose(losses[:, 1:] / losses[:, :1], np.tile([1.02, 2.0], (2000, 1)))
    assert losses[:, 0].std() > 0.1
    gains, gain = bootstrap_gain(case(1.0), case(2.0), seed=1)
    np.testing.assert_allclose(gains, gain)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "two or more"),
        ([{}], "two or more"),
        ([{}, {}], "each once"),
        ([{}, dict(source="digits:0,5", seed=1)], "source and n_source alone"),
        ([dict(richness=(0.0,)), dict(source="digits:0,5", richness=(0.0,))], "above 0"),
        ([{}, dict(source="digits:0,77")], "unknown classes"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_anything_is_computed(changes, said, monkeypatch):
    monkeypatch.setattr("adaptik.transfer.comparison.solve", None)
    with pytest.raises(ak.InputError, match=said):
        rank([TransferConfig(**(ASKED | change)) for change in changes])


def test_sources_are_typed_one_after_the_other(run, capsys, tmp_path, ranked, monkeypatch):
    asked = []
    monkeypatch.setattr("adaptik.transfer.ranking.rank", lambda c, *_: asked.append(c) or ranked)
    sources = [study.config["source"] for study in ranked.studies]
    typed = " ".join(f"--source {source}" for source in sources)
    assert run(f"transfer {typed} {TYPED} --out {tmp_path}") == 0
    assert asked[0] == [TransferConfig(source=source, **ASKED) for source in sources]
    printed = capsys.readouterr().out
    table = printed.split("digits:1,4: ")[0]
    assert max(map(len, table.splitlines())) <= 100 and "is the best" in table
    lines = [line.split()[0] for line in table.splitlines() if "±" in line]
    assert lines == [one.source for one in ranked.ranked if one.source]
    assert ranked.sentence in printed and ranked.studies[0].verdict.sentence in printed
    document = json.loads((tmp_path / "ranking.json").read_text())
    assert [one["source"] for one in document["ranked"]] == [one.source for one in ranked.ranked]
    assert document["ranked"][0]["best"] == ranked.ranked[0].best
    page = (tmp_path / "report.html").read_text()
    for i, source in enumerate(sources):
        assert f'href="source-{i + 1}/report.html">{source}<' in page
        assert (tmp_path / f"source-{i + 1}" / "report.html").exists()
    assert ranked.sentence in page and "probability of being the best" in page
    assert run(f"transfer {typed} {TYPED} --brief --out {tmp_path}") == 0  # into the same folder
    assert capsys.readouterr().out == ranked.sentence + "\n"


@pytest.mark.parametrize("when", [1, 2])
def test_a_ranking_that_was_interrupted_at_once_is_not_complete(when, monkeypatch):
    started = []

    def go(self, interrupted):
        started.append(self)
        self.complete = len(started) < when

    monkeypatch.setattr("adaptik.transfer.comparison.Run.go", go)
    found = rank([TransferConfig(source=s, **ASKED) for s in ("digits:1,4", "digits:0,5")])
    assert not found.complete and not found.ranked and len(started) == when
    assert not found.studies  # nothing of them was solved


def test_an_interrupted_ranking_keeps_what_was_finished(run, capsys, tmp_path, monkeypatch):
    real, calls = comparison.solve, []

    def stopped(stages, *args, **kwargs):
        calls.append(stages[0].task.name)
        if calls[-1] == "digits:0,5":
            raise KeyboardInterrupt
        return real(stages, *args, **kwargs)

    monkeypatch.setattr(comparison, "solve", stopped)
    typed = "--source digits:1,4 --source digits:0,5"
    assert run(f"transfer {typed} {TYPED} --json --out {tmp_path}") == 130
    document = json.loads(capsys.readouterr().out)
    assert document["ranked"] == [] and not document["complete"]
    first, second = document["studies"]
    assert first["complete"] and not second["complete"] and "interrupted" in document["sentence"]
    assert first["rows"] and second["rows"][0]["mode"] == "scratch"
    assert (tmp_path / "source-1" / "report.html").exists()


def test_folders_of_others_are_left_alone(run, capsys, tmp_path):
    (tmp_path / "source-2").mkdir()
    (tmp_path / "source-2" / "report.html").write_text("mine")
    typed = "--source digits:1,4 --source digits:0,5"
    assert run(f"transfer {typed} {TYPED} --out {tmp_path}") == 2
    assert "was not written by adaptik" in capsys.readouterr().err
    assert (tmp_path / "source-2" / "report.html").read_text() == "mine"
