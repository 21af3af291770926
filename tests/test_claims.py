"""Claims of findings fail on numbers that say the opposite."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import xarray as xr

from adaptik.experiments import find, verdict


def reversed_runs(dataset, variables, dim, one, other):
    """The data set with two levels of a dimension exchanged."""
    swapped = dataset.copy(deep=True)
    for name in variables:
        for here, there in ((one, other), (other, one)):
            swapped[name].loc[{dim: here}] = dataset[name].sel({dim: there}).values
    return swapped


def synthetic(name, dims, values, seed=0):
    """A data set with given means over all but draws and members, and a little noise."""
    config = replace(find(name).load().PRESETS["quick"], draws=4)
    rng = np.random.default_rng(seed)
    data = {}
    for variable, mean in values.items():
        for side, member in (("theory", "replicate"), ("network", "seed")):
            shape = (config.draws, *np.shape(mean), 3)
            noise = 1 + 0.02 * rng.standard_normal(shape)
            data[f"{side}_{variable}"] = (
                ("draw", *dims, member),
                np.asarray(mean)[..., None] * noise,
            )
    return xr.Dataset(data, attrs={"configuration": json.dumps(asdict(config))})


def test_the_claim_on_easy_to_hard_fails_where_it_is_reversed():
    finding = find("fig3a").load()
    loss = {"target": [[0.9, 0.6], [0.9, 0.4], [0.9, 0.6]], "source": [[1, 1], [1, 1], [0.1, 1]]}
    good = synthetic("easy_before_hard", ("run", "time"), loss)
    good = good.assign_coords(run=["scratch", "fresh head", "kept head"])
    gain, forgetting = finding.check(good)
    assert gain.word == forgetting.word == "reproduced"
    assert gain.value == pytest.approx(1 / 3, abs=0.02) and 0 < gain.standard_error < 0.03
    assert "yes, by 3" in gain.sentence and "networks: 3" in gain.sentence
    bad = reversed_runs(good, ["theory_target", "network_target"], "run", "scratch", "fresh head")
    assert finding.check(bad)[0].word == "differs"
    assert verdict.overall(finding.check(bad)) == "differs"
    # The same numbers are against the claim of figure 3b, which they support when reversed.
    hard = find("fig3b").load()
    assert hard.check(good)[0].word == "differs" and hard.check(bad)[0].word == "reproduced"
    same = good.copy(deep=True)
    for side in ("theory", "network"):
        at = same[f"{side}_target"]
        at.loc[{"run": "fresh head"}] = np.roll(at.sel(run="scratch").values, 1, axis=0)
    assert finding.check(same)[0].word == "not reproduced"


def test_the_claims_on_joint_stages_fail_where_they_are_reversed():
    """Losses fall from run to run in the order of RUNS; reversed, every claim is contradicted."""
    from adaptik.experiments.polynomials.joint_or_sequential import RUNS, check

    rng = np.random.default_rng(0)
    values = np.linspace(1.0, 0.4, 4)[None, :, None, None] + 0.01 * rng.standard_normal(
        (5, 4, 1, 3)
    )
    dims = ("draw", "run", "time")
    dataset = xr.Dataset(
        {
            "theory_target": ((*dims, "replicate"), values),
            "network_target": ((*dims, "seed"), values),
        },
        coords={"run": list(RUNS)},
    )
    assert verdict.overall(check(dataset)) == "reproduced"
    backwards = dataset.assign_coords(run=list(RUNS)[::-1])
    assert [claim.word for claim in check(backwards)] == ["differs"] * 3


def test_the_claim_on_images_fails_where_it_is_reversed():
    loss = {"loss": [[0.9, 0.5, 0.4, 0.3], [0.8, 0.5, 0.4, 0.3], [0.5, 0.4, 0.35, 0.3]]}
    dims = ("richness", "n_target")
    good = synthetic("rich_features_need_fewer_images", dims, loss)
    good = good.assign_coords(richness=[0.0, 1.0, 4.0], n_target=[4, 10, 30, 100])
    names = ["theory_loss", "network_loss"]
    bad = reversed_runs(good, names, "richness", 0.0, 4.0)
    check = find("fig2b").load().check
    assert check(good)[0].word == "reproduced" and check(bad)[0].word == "differs"


def test_early_stopping_is_not_found_in_a_loss_that_only_falls():
    name = "rich_targets_want_early_stopping"
    config = find(name).load().PRESETS["quick"]
    rising = [[0.9, 0.5, 0.5], [0.9, 0.5, 0.52], [0.9, 0.4, 0.6]]
    good = synthetic(name, ("richness", "time"), {"target": rising})
    good = good.assign_coords(richness=list(config.target_richness))
    claims = find(name).load().check(good)
    assert claims[0].word == "reproduced" and claims[0].value == pytest.approx(0.5, abs=0.06)
    falling = good.copy(deep=True)
    for side in ("theory", "network"):
        at = falling[f"{side}_target"]
        at.loc[{"time": 2}] = 0.9 * at.sel(time=1).values
    assert find(name).load().check(falling)[0].word != "reproduced"


def test_the_claims_on_layers_fail_where_they_are_reversed():
    name = "layers_to_keep"
    loss = {"loss": [[1.0, 0.7, 0.8, 1.4], [1.0, 0.9, 0.7, 0.6]]}
    good = synthetic(name, ("way", "kept"), loss)
    good = good.assign_coords(way=["frozen", "trained on"], kept=[0, 1, 2, 3])
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 3
    assert [round(c.value, 1) for c in claims] == [0.4, 0.3, 0.5]
    names = ["theory_loss", "network_loss"]
    bad = reversed_runs(good, names, "way", "frozen", "trained on")
    words = [c.word for c in find(name).load().check(bad)]
    assert words[0] == "differs" and words[2] != "reproduced"  # all frozen layers are best


def test_the_claims_on_local_features_fail_where_they_are_reversed():
    name = "local_features"
    config = find(name).load().PRESETS["quick"]
    each = [[0.8, 0.6], [0.8, 0.4], [0.9, 0.3]]  # dense, average, root: scratch, pretrained
    good = synthetic(name, ("pair", "architecture", "start"), {"loss": [each] * 3})
    levels = dict(architecture=["dense", "average", "root"], start=["scratch", "pretrained"])
    good = good.assign_coords(pair=list(config.pairs), **levels)
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 2
    assert [round(c.value, 2) for c in claims] == pytest.approx([0.25, 0.42], abs=0.03)
    bad = reversed_runs(good, ["theory_loss", "network_loss"], "architecture", "dense", "root")
    words = [c.word for c in find(name).load().check(bad)]
    assert words == ["differs"] * 2  # patches gain less


@pytest.mark.parametrize(
    ("name", "axis", "levels"),
    [
        ("few_directions", "rank", [1, 3, 12]),
        ("few_directions_of_images", "share", [0.05, 0.2, 1.0]),
    ],
)
def test_the_claims_on_few_directions_fail_where_they_are_reversed(name, axis, levels):
    """The lazy stage loses 10 % along few directions, the rich one 50 % of its smaller loss."""
    loss = {"loss": [[0.9, 0.88, 0.8], [0.9, 0.6, 0.4]]}
    good = synthetic(name, ("target_richness", axis), loss)
    good = good.assign_coords({"target_richness": [0.0, 2.0], axis: levels})
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 2
    assert [round(c.value, 2) for c in claims] == pytest.approx([0.33, 0.4], abs=0.03)
    names = ["theory_loss", "network_loss"]
    fewer = reversed_runs(good, names, axis, levels[1], levels[2])
    assert [c.word for c in find(name).load().check(fewer)] == ["differs"] * 2
    lazier = reversed_runs(good, names, "target_richness", 0.0, 2.0)
    assert [c.word for c in find(name).load().check(lazier)] == ["reproduced", "differs"]


def test_the_claims_on_long_pretraining_fail_where_they_are_reversed():
    name = "long_pretraining"
    loss = {"loss": [[0.9, 0.5, 1.0], [0.9, 0.5, 0.6]]}  # rank r, all directions
    good = synthetic(name, ("of", "switch"), loss)
    good = good.assign_coords(of=["rank 2", "all directions"], switch=[1.0, 10.0, 100.0])
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 2
    assert [round(c.value, 2) for c in claims] == pytest.approx([0.5, 0.33], abs=0.03)
    names = ["theory_loss", "network_loss"]
    swapped = reversed_runs(good, names, "of", "rank 2", "all directions")
    assert [c.word for c in find(name).load().check(swapped)] == ["reproduced", "differs"]
    best_last = reversed_runs(good, names, "switch", 10.0, 100.0)
    assert find(name).load().check(best_last)[0].word == "not reproduced"  # nothing is lost


def test_the_claims_on_fast_readouts_fail_where_they_are_reversed():
    name = "fast_readouts_forget"
    loss = {"source": [0.5, 0.8, 1.0], "target": [0.3, 0.4, 0.6]}
    good = synthetic(name, ("rate",), loss).assign_coords(rate=[0.1, 1.0, 10.0])
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 2
    assert [round(c.value, 2) for c in claims] == pytest.approx([0.5, 0.5], abs=0.03)
    names = [f"{side}_{what}" for side in ("theory", "network") for what in loss]
    bad = reversed_runs(good, names, "rate", 0.1, 10.0)
    assert [c.word for c in find(name).load().check(bad)] == ["differs"] * 2


def test_the_claims_on_shared_directions_fail_where_they_are_reversed():
    name = "shared_directions"
    finding = find(name).load()
    parts = [[0.2, 0.2, 0.0], [0.7, 0.3, 0.1]]  # along DIRECTIONS, without a source and with one
    learned = [[[p] * 3] * 2 for p in parts]  # at three numbers of samples, in both stages
    good = synthetic(name, ("source", "stage", "n_target", "direction"), {"learned": learned})
    levels = dict(source=list(finding.SOURCES), stage=list(finding.STAGES))
    good = good.assign_coords(**levels, direction=list(finding.DIRECTIONS))
    claims = finding.check(good)
    assert [c.word for c in claims] == ["reproduced"] * 6
    assert [round(c.value, 2) for c in claims[:3]] == pytest.approx([0.5, 0.4, 0.15], abs=0.03)
    names = ["theory_learned", "network_learned"]
    without = reversed_runs(good, names, "source", *finding.SOURCES)
    assert [c.word for c in finding.check(without)[:2]] == ["differs"] * 2
    own = reversed_runs(good, names, "direction", *finding.DIRECTIONS[:2])
    assert [c.word for c in finding.check(own)[:2]] == ["reproduced", "differs"]
    foreign = reversed_runs(good, names, "direction", finding.SHARED, finding.FOREIGN)
    assert finding.check(foreign)[2].word == "differs"


def test_the_claims_on_small_scales_fail_where_they_are_reversed():
    name, runs = "small_scales_refine", ["target alone", "source → readout", "source → all weights"]
    loss = {"loss": [[0.8, 0.6, 0.4], [0.8, 0.75, 0.7]]}  # at a small scale, and at a large one
    good = synthetic(name, ("scale", "run"), loss)
    good = good.assign_coords(scale=[0.5, 2.0], run=runs)
    claims = find(name).load().check(good)
    assert [c.word for c in claims] == ["reproduced"] * 3
    assert [round(c.value, 2) for c in claims] == pytest.approx([0.5, 0.33, 0.43], abs=0.03)
    names = ["theory_loss", "network_loss"]
    useless = reversed_runs(good, names, "run", runs[0], runs[2])
    assert [c.word for c in find(name).load().check(useless)][:2] == ["differs", "differs"]
    still = reversed_runs(good, names, "run", runs[1], runs[2])
    assert [c.word for c in find(name).load().check(still)][1] == "differs"
    large = reversed_runs(good, names, "scale", 0.5, 2.0)
    assert find(name).load().check(large)[2].word == "differs"
