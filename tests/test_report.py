"""The report is whole, self-contained and honest about what is missing."""

import base64
import html
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import typer
import xarray as xr
import zarr
from tests.made_study import Row, Study, Verdict, a_study

from adaptik import cli
from adaptik.display import terminal
from adaptik.display.plots.style import OKABE_ITO, shades
from adaptik.display.reports import chart
from adaptik.display.reports.next_steps import command, next_steps
from adaptik.display.reports.study import BELOW_ZERO, _page, all_notes, write
from adaptik.solution.estimate import rounded
from adaptik.system.errors import InputError
from adaptik.transfer.options import TransferConfig

ONE_ROW = (Row("lazy", 2.0, 0.0, 0.1),)
FILES = {"report.html", "rows.json", "config.json", "results.zarr.zip", "evolution.zarr.zip"}
FIGURES = {"learning_curves", "loss_against_richness", "kernels", "alignment", "forgetting"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    study = a_study()
    return study, write(study, folder)


def test_everything_is_written(written):
    study, page = written
    assert set(os.listdir(page.parent)) == FILES | {f"{name}.png" for name in FIGURES}
    document = json.loads((page.parent / "rows.json").read_text())
    assert len(document["rows"]) == len(study.rows)
    assert (
        document["rows"][0] | {"source_richness": None, "target_richness": 0.0}
        == document["rows"][0]
    )
    assert document["rows"][2]["source_loss_after"] is None  # NaN is no JSON
    assert document["verdict"]["gain"] == 0.21
    assert json.loads((page.parent / "config.json").read_text()) == study.config
    with zarr.storage.ZipStore(page.parent / "results.zarr.zip", mode="r") as store:
        back = xr.open_zarr(store, consolidated=False).load()
    xr.testing.assert_identical(back, study.to_xarray())


class Elements(HTMLParser):
    """All elements of a page with their attributes; refuses tags that do not match."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_self_contained(written):
    _, page = written
    text = page.read_text()
    assert len(text.encode()) < 3e6
    elements = Elements(text).found
    for name, attributes in elements:
        for key in ("src", "href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,")), name
        assert name not in ("link", "iframe", "object")
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    for embedded in re.findall(r"base64,([A-Za-z0-9+/=\s]+)", text):
        assert base64.b64decode(embedded).startswith(b"\x89PNG")
    assert "Pretraining helps: &lt;21 %&gt; &amp; more" in text
    assert "Incomplete" not in text
    assert text.count("<tr") == 2 * (1 + 17) + 1 + 2  # what matters, everything, the tasks
    assert "93.0 %" in text
    assert "cross-validated" not in text  # a column without any value
    assert "−21.0 ± 4.0 %" in text


def test_answer_picture_and_next_steps_come_first(written):
    _, page = written
    text = page.read_text()
    places = [text.index(part) for part in ('class="verdict', "<svg", "What to do next", "<table")]
    assert places == sorted(places)
    assert "<details class=" in text[: text.index("All numbers")][-60:]  # the full table is folded


def test_the_page_can_be_read_without_seeing_it(written):
    _, page = written
    elements = Elements(page.read_text()).found
    assert all(a.get("scope") == "col" for name, a in elements if name == "th")
    assert all(a.get("alt") for name, a in elements if name == "img")
    pictures = [a for name, a in elements if name == "svg" and "aria-hidden" not in a]
    assert pictures and all(a["aria-label"] and a["tabindex"] == "0" for a in pictures)
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))


def charts_of(text):
    """Of every picture: what is read out of it, and its source."""
    pictures = re.findall(r"<svg viewBox.*?</svg>", text, flags=re.S)
    data = [re.search(r'data-points="([^"]*)"', picture) for picture in pictures]
    return [(json.loads(html.unescape(d[1])), p) for d, p in zip(data, pictures, strict=True) if d]


def test_values_are_read_out_where_they_are_drawn(written):
    study, page = written
    data, picture = charts_of(page.read_text())[0]
    named = {(one["s"], one["k"]): one["p"] for one in data}
    assert {name for name, _ in named} == {
        "readout", "lazy, γ₂ = 0", "rich, γ₂ = 1", "scratch, γ₂ = 0", "scratch, γ₂ = 1"
    }  # fmt: skip
    rows = [r for r in study.rows if r.mode == "lazy"]
    said = [
        f"{rounded(row.test_loss, np.hypot(row.test_loss_se, row.sampling_se))}; accuracy 93.0%"
        for row in rows
    ]
    points = named["lazy, γ₂ = 0", "theory"]
    assert [point[3] for point in points] == said
    assert [point[2] for point in points] == [f"γ₁ = {r.source_richness:g}" for r in rows]
    drawn = picture.split('data-series="lazy, γ₂ = 0" data-kind="theory"')[1:]
    paths = [
        re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", re.search(r'd="([^"]*)"', d)[1]) for d in drawn
    ]
    line = next(p for p in paths if len(p) == len(points))
    np.testing.assert_allclose(np.array(line, float), [p[:2] for p in points], atol=0.06)


def test_every_switch_has_something_to_switch(written):
    _, page = written
    figures = page.read_text().split('<figure class="chart">')[1:]
    assert len(figures) == 6  # the answer, curves of both tasks, kernels, alignment, forgetting
    for figure in figures:
        for what, value in re.findall(r'data-switch="(\w+)" data-value="([^"]*)"', figure):
            assert f'data-{what}="{value}"' in figure
    assert 'data-value="network"' in figures[0] and 'data-value="γ₁ = 4"' in figures[1]
    assert "<button" not in figures[3]  # kernels


def test_colours_can_be_seen_on_light_and_dark(written):
    _, page = written
    text = page.read_text()
    light, dark = (
        dict(re.findall(r"--c-([0-9a-f]{6}):(#[0-9a-f]{6})", part))
        for part in re.search(r":root\{(--c-.*?)\}.*?:root\{(--c-.*?)\}", text, re.S).groups()
    )
    used = set(re.findall(r"var\(--c-(\w+)\)", text))
    assert used == light.keys() == dark.keys() and all(f"#{k}" == v for k, v in light.items())

    def luminance(colour):
        return chart._luminance(np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255)

    from matplotlib.colors import to_hex

    for colour in [*OKABE_ITO, *map(to_hex, shades(5))]:
        shown = chart._on_dark(colour[1:].lower())
        assert (luminance(shown) + 0.05) / (luminance("#14181f") + 0.05) > 4.4, colour
    assert re.search(r"@media print", text) and "prefers-color-scheme: dark" in text


@pytest.mark.evidence
def test_the_page_says_which_draws_its_curves_are_of():
    study = a_study(richness=(1.0, 2.0), network=False)
    for splits, times in ((1, 0), (5, 4)):  # both tasks' curves, kernels, alignment
        config = {**study.config, "splits": splits}
        text = _page(replace(study, config=config))
        assert text.count(", in the first of the 5 draws of the data alone") == times


def typed(line):
    """The configuration that a command line stands for."""
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("adaptik", "transfer")
    commands = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]
    context = commands[name].make_context(name, arguments)
    return cli.typed_configs({f: context.params[f] for f in TransferConfig.__dataclass_fields__})[0]


def test_commands_on_the_page_ask_what_they_say():
    config = TransferConfig(n_target=8, richness=(0.0, 2.0), head="kept", check_seeds=0)
    assert typed(command(asdict(config))) == config
    assert typed(command(asdict(config), splits=4)) == replace(config, splits=4)


def test_next_steps_follow_from_what_was_found():
    config = asdict(TransferConfig(richness=(0.0, 1.0, 2.0), splits=3, source="a.csv"))
    tasks = {"source": {"name": "a"}, "target": {"name": "b", "classes": ("1", "7")}}

    def steps(rows=ONE_ROW, complete=True, verdict=None, **changes):
        verdict = Verdict("Yes: it helps.") if verdict is None else verdict
        study = Study(config | changes, rows, verdict, tasks=tasks, complete=complete)
        return next_steps(study)

    first, beyond = steps()
    assert first[1].startswith("TransferKernelClassifier") and "source_richness=2)" in first[1]
    assert typed(beyond[1]).richness == (2.0, 4.0, 8.0)
    stopped = (Row("lazy", 2.0, 0.0, 0.1, stop=12.345),)
    assert "source_richness=2, duration=12.3)" in steps(rows=stopped)[0][1]
    assert "duration" not in steps(rows=stopped, stopping="end")[0][1]
    inner = steps(richness=(0.0, 2.0, 4.0))
    assert len(inner) == 1
    hurts = steps(verdict=Verdict("No: it hurts.", False, -0.2))
    assert len(hurts) == 1 and "from scratch" in hurts[0][0] and not hurts[0][1]
    unclear = steps(verdict=Verdict("Unclear: ...", None, 0.05, 0.04, source_richness=1.0))
    assert typed(unclear[0][1]).splits == 12  # 3 (2.5 * 0.04 / 0.05)^2
    small = steps(verdict=Verdict("Unclear: ...", None, 0.002, 0.04, source_richness=1.0))
    assert "small beside its error" in small[0][0] and not small[0][1]
    far = steps(rows=(Row("rich", 1.0, 1.0, 0.1, difference_in_se=-4.0),))
    assert "rich at γ₁ = 1" in far[0][0] and typed(far[0][1]).check_width == 2048
    lost = steps(rows=(Row("rich", 1.0, 1.0, 0.1, outcome="out of steps before converging"),))
    assert "Do not rely on rich at γ₁ = 1: out of steps" in lost[0][0]
    assert typed(steps(check_seeds=0)[-1][1]).check_seeds == TransferConfig.check_seeds
    assert typed(steps(splits=1)[-1][1]).splits == 4
    assert "run it again" in steps(complete=False)[0][0] and len(steps(complete=False)) == 1


def test_the_printed_table_fits_a_hundred_columns(capsys):
    study = a_study()
    terminal.print_study(study, ("a note",))
    table, note, verdict = capsys.readouterr().out.rstrip().rsplit("\n", 2)
    assert (note, verdict) == ("note: a note", study.verdict.sentence)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 1 + 1 + 3 + len(study.rows)  # title, gap, headings, and no row wraps
    lazy = next(line for line in lines if line.split()[:3] == ["lazy", "2", "0"])
    row = next(r for r in study.rows if (r.mode, r.source_richness) == ("lazy", 2.0))
    for part in (
        rounded(row.test_loss, 0.004),
        rounded(row.network_test_loss, 0.01),
        "+0.7",
        "93.0%",
    ):
        assert part in lazy
    assert "converged" not in table and "nan" not in table
    terminal.print_study(study, (), verbose=True)
    verbose = capsys.readouterr().out
    assert verbose.count("converged") == len(study.rows) and "test-set s.e." in verbose
    assert "refits" not in verbose  # a column without any value


@pytest.mark.parametrize(
    "study",
    [
        a_study(richness=(2.0,), network=False),
        a_study(richness=(0.0,), classes=False),
        replace(a_study(), rows=(), curves=(), kernels={}, alignments={}, complete=False),
        replace(
            a_study(), rows=a_study().rows[:1], curves=a_study().curves[:2], alignments={"a": {}}
        ),
        replace(
            a_study(richness=(1.0, 3.0)),
            rows=(
                Row("lazy", 1.0, 0.0, float("nan"), float("nan"), float("nan"), outcome="diverged"),
            ),
            kernels={"lazy": np.full((3, 3), np.nan)},
        ),
    ],
    ids=["one richness", "lazy only", "nothing", "scratch only", "nan"],
)
def test_partial_studies(study, tmp_path):
    page = write(study, tmp_path)
    assert ("Incomplete" in page.read_text()) is not study.complete


def test_old_pictures_go(tmp_path):
    write(a_study(richness=(1.0,), network=False), tmp_path)
    write(replace(a_study(), curves=(), rows=(), kernels={}, alignments={}), tmp_path)
    assert set(os.listdir(tmp_path)) == FILES


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the output folder.*file"):
        write(a_study(), tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"cannot make the output folder.*file"):
        write(a_study(), tmp_path / "file")


def test_a_loss_below_zero_is_said_to_be_an_estimate():
    studies = [
        Study({}, (Row("lazy", 1.0, 0.0, loss),), notes=("first",)) for loss in (0.01, -0.01)
    ]
    said, explained = (all_notes(study) for study in studies)
    assert said == ("first",) and explained == ("first", BELOW_ZERO)
    assert "estimates without bias" in BELOW_ZERO


BROWSE = """<script>addEventListener("load", () => setTimeout(() => {
  const svg = document.querySelector("svg[data-points]"), said = [];
  const tip = svg.closest(".chart").querySelector(".tip");
  const [x, y] = JSON.parse(svg.dataset.points)[0].p[1];
  const at = new DOMPoint(x + 2, y - 2).matrixTransform(svg.getScreenCTM());
  const point = () => svg.dispatchEvent(
    new PointerEvent("pointermove", { clientX: at.x, clientY: at.y }));
  point();
  said.push(tip.hidden ? "nothing" : tip.textContent);
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  said.push(tip.textContent);
  document.querySelector("button[data-value='readout']").click();
  const parts = [...document.querySelectorAll(".first [data-series='readout']")];
  said.push(parts.length > 0 && parts.every((part) => getComputedStyle(part).display === "none"));
  const bottom = (one) => document.querySelector(one).getBoundingClientRect().bottom;
  said.push(Math.max(bottom(".verdict"), bottom(".first svg[data-points]"), bottom(".next li")));
  said.push(document.documentElement.scrollWidth);
  document.title = JSON.stringify(said);
}, 100));</script></body>"""


@pytest.mark.evidence
def test_a_browser_reads_out_and_switches(written, tmp_path):
    """The script at work, and that a first screen holds answer, picture and the first step."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    study, page = written
    (tmp_path / "page.html").write_text(page.read_text().replace("</body>", BROWSE))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,720")
    command = [browser, *options, "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"file://{tmp_path}/page.html"], capture_output=True, text=True
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    pointed, moved, hidden, bottom, width = json.loads(html.unescape(title[1]))
    readout = [r for r in study.rows if r.mode == "readout"]
    for said, row in ((pointed, readout[1]), (moved, readout[2])):
        loss = rounded(row.test_loss, np.hypot(row.test_loss_se, row.sampling_se))
        assert said == f"readoutγ₁ = {row.source_richness:g}: {loss}; accuracy 93.0%"
    assert hidden and bottom < 720 and width <= 1280
