"""The paper's figures: registry, tiny runs of every experiment, verdicts that can fail."""

import json
import subprocess
import sys
import types
from dataclasses import asdict, replace

import numpy as np
import pytest
import xarray as xr

from adaptik import sweeps
from adaptik.display.reports import pages
from adaptik.experiments import EXPERIMENTS, find, gallery, verdict
from adaptik.experiments.both import Both, of_size
from adaptik.experiments.finding import CaseFailed, cases, configuration
from adaptik.experiments.posteriors import elastic_pull
from adaptik.experiments.reproduce import configure, judge, reproduce
from adaptik.limits import Convolutional
from adaptik.limits.solving import solve
from adaptik.networks import Network, train
from adaptik.system.errors import InputError
from adaptik.tasks import Task, load
from adaptik.tasks.stages import Stage, target_stage

TINY = dict(particles=128, replicates=2, width=64, networks=2, draws=2)
LINEAR = dict(dimension=40, draws=3, networks=2, width=64, network_dimension=20)
SMALL = {  # what each experiment needs besides to be over in a second
    "aligned_source_helps": LINEAR,
    "more_source_data_help": LINEAR,
    "over_rich_source": LINEAR,
    "richer_source_helps": LINEAR,
    "anisotropic_noise_hurts": LINEAR,
    "target_wants_longer_source": dict(dimension=20, draws=4, richness=(0.5, 4.0), sources=(2.0,)),
    "spikes_that_hurt": dict(
        dimension=40, draws=4, flow_dimension=8, flows=2, flow_richness=(1.0, 4.0), depth=(1, 2)
    ),
    "rich_features_need_fewer_images": dict(n_source=12, n_target=(4, 8), n_test=20),
    "gain_fades_with_target_data": dict(n_source=12, n_target=(4, 8), n_test=20),
    "readout_beats_lazy": dict(n_source=12, n_target=(4, 8), n_test=20),
    "easy_before_hard": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "hard_before_easy": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "rich_targets_want_early_stopping": dict(n_source=12, n_target=8, n_test=20),
    "preactivations_leave_the_gaussian": dict(n_source=12, n_target=8, n_test=20),
    "polynomial_source_data": dict(dimension=4, abundant=12, limited=6, n_target=(4, 8), n_test=20),
    "when_to_switch": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "curriculum_of_three": dict(dimension=4, n_train=8, n_test=20),
    "few_directions": dict(dimension=4, n_source=10, n_target=8, n_test=20, rank=(1, 2, 4)),
    "long_pretraining": dict(dimension=4, n_source=10, n_target=8, n_test=20, rank=2),
    "fast_readouts_forget": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "small_scales_refine": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "joint_or_sequential": dict(dimension=4, n_source=10, n_target=8, n_test=20),
    "shared_directions": dict(dimension=4, n_source=10, n_target=(6, 8), n_test=20),
    "pull_helps_related_tasks": dict(dimension=5, n_source=6, n_target=3, n_test=20),
    "pull_on_images": dict(n_source=6, n_target=(4, 6), n_test=20),
    "pull_on_polynomials": dict(dimension=3, n_source=6, n_target=4, n_test=20),
    "layers_to_keep": dict(n_source=12, n_target=8, n_test=20, depth=2),
    "few_directions_of_images": dict(n_source=10, n_target=6, n_test=20, share=(0.2, 1.0)),
    "local_features": dict(
        pairs=("0,1,0,9",), n_source=8, n_target=4, n_test=20, patch=4, stride=4, loss_tol=0.3
    ),
}
SHORT = {
    "easy_before_hard": dict(source_duration=2.0, target_duration=3.0),
    "hard_before_easy": dict(source_duration=2.0, target_duration=3.0),
    "rich_targets_want_early_stopping": dict(
        source_duration=2.0, target_duration=3.0, target_richness=(0.5, 2.0)
    ),
    "preactivations_leave_the_gaussian": dict(
        source_duration=2.0, target_duration=3.0, target_richness=(0.1, 2.0)
    ),
    "rich_features_need_fewer_images": dict(richness=(0.0, 1.0), duration=2.0),
    "gain_fades_with_target_data": dict(richness=(0.0, 1.0), duration=2.0),
    "readout_beats_lazy": dict(richness=(1.0,), duration=2.0),
    "polynomial_source_data": dict(duration=2.0),
    "when_to_switch": dict(switch=(0.1, 1.0, 2.0)),
    "curriculum_of_three": dict(duration=2.0, final_duration=3.0),
    "few_directions": dict(duration=2.0, target_richness=(0.0, 1.0)),
    "long_pretraining": dict(switch=(0.5, 1.0, 2.0), duration=0.5),
    "fast_readouts_forget": dict(source_duration=2.0, rate=(0.3, 3.0), loss_tol=0.3),
    "small_scales_refine": dict(duration=2.0, target_duration=3.0, scale=(0.5, 2.0)),
    "joint_or_sequential": dict(duration=2.0, target_duration=3.0),
    "shared_directions": dict(source_duration=2.0, target_duration=2.0),
    "pull_helps_related_tasks": dict(
        alignment=(0.0, 0.9), elastic=(0.0, 10.0), warmup=10, samples=10, width=100
    ),
    "pull_on_images": dict(elastic=(0.0, 10.0), warmup=10, samples=10),
    "pull_on_polynomials": dict(elastic=(0.0, 10.0), warmup=10, samples=10, richness=(1.0,)),
    "layers_to_keep": dict(duration=2.0),
    "few_directions_of_images": dict(duration=2.0),
}


def tiny(name):
    config = find(name).load().PRESETS["quick"]
    if hasattr(config, "data"):
        config = replace(config, data="digits")
    if hasattr(config, "particles"):
        config = replace(config, **TINY)
    return replace(config, **SMALL[name], **SHORT.get(name, {}))


def test_the_registry_covers_the_paper_and_is_light():
    figures = [e.figure for e in EXPERIMENTS if e.figure]
    wanted = ["1a", "1b", "1c", "2a", "2b", "2c", "3a", "3b", "4", "5"]
    assert figures == [*(f"fig{number}" for number in wanted), "appB"]
    assert len({e.name for e in EXPERIMENTS}) == len(EXPERIMENTS)
    assert set(SMALL) == {e.name for e in EXPERIMENTS}
    for entry in EXPERIMENTS:
        assert find(entry.name) is entry
        finding = entry.load()
        assert set(finding.PRESETS) == {"quick", "full"}
        for part in ("compute", "draw", "caption", "check"):
            assert callable(getattr(finding, part))
    probe = (
        "import sys, adaptik.experiments\n"
        "heavy = {'matplotlib', 'zarr', 'sklearn', 'xarray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


QUICK, LONG = (
    ["aligned_source_helps"],
    [
        "pull_helps_related_tasks",
        "pull_on_images",
        "local_features",
    ],
)


def _marks(name):
    if name in QUICK:
        return ()
    return (pytest.mark.evidence, pytest.mark.wide) if name in LONG else pytest.mark.evidence


CHOSEN = [pytest.param(e, id=e.name, marks=_marks(e.name)) for e in EXPERIMENTS]


@pytest.mark.parametrize("entry", CHOSEN)
def test_every_experiment_runs_draws_and_judges(entry):
    finding, config = entry.load(), tiny(entry.name)
    dataset = finding.compute(config)
    assert configuration(dataset, type(config)) == config
    outcome = judge(entry, dataset, config)
    assert outcome.agreement.points >= 4 and outcome.claims
    for claim in outcome.claims:
        assert np.isfinite(claim.value) and claim.standard_error >= 0
    words = {c.word for c in outcome.claims}
    assert (outcome.word == "reproduced") == (words == {"reproduced"})
    assert json.loads(json.dumps(outcome.document()))["verdict"] == outcome.word
    text = finding.caption(config)
    for name, value in asdict(config).items():  # every parameter is in the caption
        if name in ("figure", "activation") or isinstance(value, str | tuple | list):
            continue
        assert f"{value:g}" in text, (name, value, text)
    figure = finding.draw(dataset)
    assert figure.axes and all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes[:1])
    assert len(gallery.small(figure)) < gallery.LARGEST


@pytest.mark.evidence
@pytest.mark.parametrize("figure", ["fig2b", "fig4"])
def test_figures_of_images_are_those_of_a_convolution_where_it_is_asked_for(figure):
    entry = find(figure)
    asked = configure(entry.load(), "quick", "digits", patch=4, pooling="average")
    sizes = {name: getattr(asked, name) for name in ("architecture", "patch", "stride")}
    assert sizes == dict(architecture="average", patch=4, stride=4)
    config = replace(tiny(entry.name), **sizes)
    source, target = config.load(config.seed)
    assert source.dimension == 64  # pixels in their places
    dataset = entry.load().compute(config)
    first = dict(richness=dataset.richness.values[-1], draw=0)
    if figure == "fig2b":
        source_stage = Stage(source, first["richness"], duration=config.duration)
        last = target_stage(of_size(target, 8), "readout")
        found = dataset.theory_loss.sel(n_target=8, **first)
    else:
        source_stage = Stage(source, config.source_richness, duration=config.source_duration)
        last = Stage(target, first["richness"], duration=config.target_duration)
        found = dataset.theory_target.sel(first).isel(time=-1)
    limit = Convolutional("relu", 4, 4, "average", particles=128, replicates=2)
    common = dict(key=config.seed, record=17 if figure == "fig4" else 2)
    before = solve([source_stage], limit, observe=[target], key=config.seed, record=2)
    expected = solve([last], limit, after=before, **common)
    np.testing.assert_allclose(found, expected.losses(last.task)[-1], rtol=1e-4)
    outcome = judge(entry, dataset, config)
    assert "patches of 4 x 4 pixels at stride 4, pooled by their average" in outcome.caption
    assert entry.load().draw(dataset).axes


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


def test_linear_claims_fail_on_reversed_curves():
    finding, config = find("fig1a").load(), tiny("aligned_source_helps")
    dataset = finding.compute(config)
    good = finding.check(dataset)
    assert [c.word for c in good] == ["reproduced"] * 3
    bad = dataset.assign(value0=(dataset.value0.dims, dataset.value0.values[::-1]))
    bad = bad.assign(
        {n: (dataset[n].dims, dataset[n].values[::-1]) for n in ("theory0", "simulated0")}
    )
    assert [c.word for c in finding.check(bad)] == ["differs"] * 3
    assert finding.agreement(dataset).points == 60
    off = dataset.assign(simulated0=dataset.simulated0 + 0.5)
    assert not finding.agreement(off).holds and len(finding.agreement(off).outliers) > 5


def test_agreement_counts_and_names_what_is_apart():
    rng = np.random.default_rng(0)
    theory = rng.standard_normal((2, 40, 6))
    networks = rng.standard_normal((2, 40, 6))
    networks[:, 3] += 9
    theory[:, 5] = networks[:, 5] = 1.0  # nothing could differ: no evidence
    dataset = xr.Dataset(
        {
            "theory_loss": (("draw", "n_target", "replicate"), theory),
            "network_loss": (("draw", "n_target", "seed"), networks),
        },
        coords={"n_target": np.arange(40)},
    )
    found = verdict.agreement(dataset)
    assert (found.points, found.within) == (39, 38) and found.holds
    (line,) = found.outliers
    assert line.startswith("loss, n_target = 3: +")
    # Calibrated: without the outlier only noise is left.
    calm = verdict.agreement(dataset.isel(n_target=[i for i in range(40) if i != 3]))
    assert 0.7 < calm.root_mean_square < 1.3
    theory[:, 5] = 2.0
    assert verdict.agreement(dataset).within == 38 and verdict.agreement(dataset).points == 40


def test_loss_of_the_mean_network_is_what_the_limit_predicts():
    task = load("digits", classes=(3, 5), n_train=12, n_test=30)
    stages = [Stage(task, 0.0)]
    network = train(stages, Network(32), seeds=6, record=2)
    losses = Both(network, network).losses(task).network.isel(time=-1)
    f = network.predictions(task)[-1]
    mean, spread = f.mean(0), f.var(0, ddof=1) / len(f)
    y = task.split("test")[1]
    expected = np.mean((mean - y) ** 2 - spread)  # without the variance of a mean of six
    assert float(losses.mean()) == pytest.approx(expected, rel=1e-6)
    assert float(losses.mean()) < float(network.loss(task))


def test_a_failing_case_is_told_with_its_error():
    def broken(config, draw):
        raise ValueError(f"draw {draw} is broken")

    with pytest.raises(CaseFailed, match="2 cases failed; first: ValueError: draw 0 is broken"):
        cases(broken, {"draw": [0, 1]}, find("fig1a").load().PRESETS["quick"])


def test_the_command_line_reproduces_resumes_and_reports(run, monkeypatch, capsys, tmp_path):
    assert run("reproduce --list") == 0
    listed = capsys.readouterr().out
    assert all(e.name in listed and e.claim in listed for e in EXPERIMENTS)
    entry = find("fig1b")
    monkeypatch.setitem(entry.load().PRESETS, "quick", tiny(entry.name))
    command = f"reproduce fig1b --workers 1 --out {tmp_path}/out"
    assert run(command) == 0
    out = capsys.readouterr().out
    said = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert said["verdict"] in out and said["figure"] == "fig1b"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dimension"] == 40
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/png;base64" in page and said["claims"][0]["statement"] in page
    assert page.index('class="verdict') < page.index("<img") < page.index("What to do next")
    assert "adaptik reproduce fig1b --preset full" in page

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr("adaptik.experiments.linear.closed_forms.phase_diagram", never)
        assert run(command) == 0  # everything is there already
    capsys.readouterr()
    before = (tmp_path / "out" / "config.json").read_bytes()
    monkeypatch.setitem(entry.load().PRESETS, "quick", replace(tiny(entry.name), seed=1))
    for other in (command, command.replace("fig1b", "fig1a")):
        assert run(other) == 2
        assert "holds another experiment or configuration" in capsys.readouterr().err
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_bad_commands_are_refused_before_computing(run, capsys, tmp_path):
    def refused(command: str) -> str:
        assert run(command) == 2
        return capsys.readouterr().err

    assert "fig3a (easy_before_hard)" in refused("reproduce fig9")
    assert "name one figure" in refused("reproduce")
    assert "name one figure" in refused("reproduce fig1a --all")
    assert "quick, full" in refused("reproduce fig1a --preset fast")
    assert "draws its own data" in refused("reproduce fig3a --data digits")
    assert "cifar10" in refused("reproduce fig2b --data mnist")
    digits = "reproduce fig2b --data digits"
    assert "larger than the image of 8 x 8" in refused(f"{digits} --patch 9")
    assert "integer >= 1, got 0" in refused(f"{digits} --patch 3 --stride 0")
    assert "'average' or 'root'" in refused(f"{digits} --patch 3 --pooling max")
    assert "give --patch too" in refused(f"{digits} --pooling root")
    assert "leave it out" in refused("reproduce local_features --data digits --patch 3")
    assert "--stride is for one figure" in refused("reproduce --all --stride 3")
    (tmp_path / "file").write_text("")
    assert "cannot make the output folder" in refused(
        f"reproduce fig2b --out {tmp_path}/file/x --data digits"
    )
    assert "no finished experiment" in refused(f"report {tmp_path}")
    assert "is no folder" in refused(f"report {tmp_path}/nothing")


def test_missing_images_say_how_to_get_them_and_what_else_to_draw(monkeypatch):
    def missing(name):
        from adaptik.system.errors import DatasetNotFoundError

        raise DatasetNotFoundError("not here")

    monkeypatch.setattr("adaptik.experiments.reproduce.images.read", missing)
    with pytest.raises(InputError, match=r"not here.*--data digits"):
        configure(find("fig2b").load())


def test_the_page_of_a_sweep(run, capsys, tmp_path):
    def loss(alignment: float, way: str):
        if alignment == 0.5:
            raise ValueError("half & <half>")
        return {"loss": 1 - alignment, "curve": [1.0, 2.0]}

    grid = {"alignment": [0.0, 0.5, 1.0], "way": ["readout", "lazy"]}
    sweeps.sweep(loss, grid, store=tmp_path / "mine", executor="serial")
    assert run(f"report {tmp_path}/mine") == 0
    assert str(tmp_path / "mine.html") in capsys.readouterr().out
    page = (tmp_path / "mine.html").read_text()
    assert "4 of 6 cases done, 2 failed" in page and "half &amp; &lt;half&gt;" in page
    assert page.count('<figure class="chart">') == 1  # curves are no scalar results
    assert "way = lazy" in page and "--retry-failed" in page
    with pytest.raises(InputError, match="holds no sweep"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "zarr.json").write_text("{}")
        pages.write(tmp_path / "other")


def test_the_gallery_shows_what_was_computed(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="has no verdicts"):
        gallery.write(tmp_path, tmp_path)
    entry, config = find("fig1c"), tiny("over_rich_source")
    outcome = reproduce(entry, config, tmp_path / "fig1c-quick", executor="serial")
    page = gallery.write(tmp_path, tmp_path / "docs").read_text()
    assert page.count("not computed") == len(EXPERIMENTS) - 1
    assert all(claim.sentence in page for claim in outcome.claims) and outcome.caption in page
    picture = tmp_path / "docs" / "figures" / "gallery" / "over_rich_source.png"
    assert 10_000 < picture.stat().st_size < gallery.LARGEST


def test_an_outcome_with_a_contradicted_claim_differs():
    claims = [verdict.Claim("a", 1.0, 0.1), verdict.Claim("b", -1.0, 0.1)]
    assert verdict.overall(claims) == "differs" and verdict.overall([]) == "not reproduced"
    few = verdict.Claim("c", 0.3, 0.1, freedom=2)  # 3 standard errors of 3 draws are not enough
    assert few.word == "not reproduced"


def test_fluctuations_of_members_are_no_distance_between_kernels():
    # The same kernel twice, each member with noise of its own.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6))
    task = Task(X, X[:, 0], X, X[:, 0], name="any")

    def state(noise, turn=0.0):
        kernel = X @ np.diag([3.0, 1, 1, 1, 1, 1]) @ X.T + turn * X[:, :1] @ X[:, :1].T
        noisy = kernel + noise * rng.standard_normal((8, 40, 40))
        return types.SimpleNamespace(kernel=lambda *_: noisy)

    one, two = state(3.0), state(3.0)
    each = elastic_pull._centred(one.kernel())
    mean = elastic_pull._centred(two.kernel()).mean(0)
    sizes = np.linalg.norm(each, axis=(1, 2)) * np.linalg.norm(mean)
    assert 1 - np.mean(np.sum(each * mean, axis=(1, 2)) / sizes) > 0.05
    assert abs(1 - elastic_pull._cosines(one, two, task).mean()) < 0.01
    plain, turned = state(0.0), state(0.0, 9.0)
    a, b = (elastic_pull._centred(s.kernel())[0].ravel() for s in (plain, turned))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine < 0.95
    np.testing.assert_allclose(elastic_pull._cosines(plain, turned, task), cosine)
