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
