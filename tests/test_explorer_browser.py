"""The explorer in Chromium: every view, keyboard, phone and dark, without a console error."""

import contextlib
import http.client
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from adaptik import sweeps
from adaptik.display.reports.folder import as_json
from adaptik.display.reports.study import document
from adaptik.experiments.reproduce import Outcome
from adaptik.experiments.verdict import Agreement, Claim
from adaptik.solution.to_xarray import save_dataset
from adaptik.transfer import run
from adaptik.transfer.options import TransferConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120_000  # milliseconds that a page may take on a busy machine
# Calls back with the milliseconds from a key's press until the map has other numbers.
UNTIL_CHANGED = """() => new Promise(resolve => {
  const image = () => window.Bokeh.documents[0].get_model_by_name('map-values').data.value[0];
  const slider = document.activeElement, before = image();
  window.measured = new Promise(done => {
    slider.addEventListener('keydown', () => {
      const began = performance.now();
      const look = () => image() !== before ? done(performance.now() - began)
                                            : requestAnimationFrame(look);
      look();
    }, {once: true, capture: true});
  });
  resolve(true);
})"""
# The command, with every message of Panel's held back for a while, as on a busy connection.
LATE = """
import asyncio, runpy
from panel.io import document

class Blocked(dict):
    def __contains__(self, key):
        return True

    def __delitem__(self, key):
        self.pop(key, None)

async def late(doc, sent=document._dispatch_msgs):
    await asyncio.sleep(0.3)
    await sent(doc)

document._WRITE_BLOCK, document._dispatch_msgs = Blocked(), late
runpy.run_module("adaptik", run_name="__main__")
"""

pytestmark = [
    pytest.mark.evidence,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


def case(width: int, richness: float, seed: int) -> xr.Dataset:
    return xr.Dataset({"loss": 1 / width + richness + 0.01 * seed})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study, a finding, a sweep, and a study that is half written."""
    root = tmp_path_factory.mktemp("explored")
    small: dict[str, Any] = dict(n_source=12, n_target=12, n_test=20, particles=96, replicates=2)
    small |= dict(richness=(0.0, 2.0), target_richness=(1.0,), folds=2)
    study = run(TransferConfig(**small, check_seeds=2, check_width=32))
    for name in ("a-study", "half", "fig"):
        (root / name).mkdir()
    (root / "a-study" / "config.json").write_bytes(as_json(study.config))
    (root / "a-study" / "rows.json").write_bytes(as_json(document(study)))
    save_dataset(study.evolution(), root / "a-study" / "evolution.zarr.zip")
    (root / "half" / "rows.json").write_text('{"rows": [')
    claims = (Claim("it falls", 0.31, 0.02, network=0.3, network_standard_error=0.05),)
    agreed = Agreement(10, 10, (), 1.0)
    done = Outcome("falls", "fig9z", "all falls", "reproduced", claims, agreed, "Cap.", 1.0)
    (root / "fig" / "verdict.json").write_bytes(as_json(done.document()))
    (root / "fig" / "config.json").write_text("{}")
    grid = dict(width=[8, 16, 32], richness=[0.0, 1.0], seed=[0, 1])
    sweeps.sweep(case, grid, store=root / "store", executor="serial")
    return root


@contextlib.contextmanager
def served(errors: Path, folder: Path, *program: str) -> Iterator[str]:
    """Address of a program that serves the explorer; it must report no error of its own."""
    command = [sys.executable, *program, "explore", str(folder), "--no-browser", "--port", "0"]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        where = re.search(r"http://localhost:\d+", line)
        assert where, line + errors.read_text()
        try:
            _answers(where.group())
            yield where.group()
        finally:
            process.terminate()
        assert process.wait(60) == 143
    said = [s for s in errors.read_text().splitlines() if "Refusing websocket" not in s]
    assert not said, "\n".join(said)


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """Of the running command, as a person starts it."""
    errors = tmp_path_factory.mktemp("explorer") / "stderr"
    with served(errors, folder, "-m", "adaptik") as where:
        yield where


def _answers(address: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=30).read()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {address}")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=["desktop", "phone"])
def page(request, browser, address):
    """A fresh visit to the running command."""
    with visit(browser, address, width=1280 if request.param == "desktop" else 390) as page:
        yield page


@contextlib.contextmanager
def visit(browser: Any, address: str, width: int) -> Iterator[Any]:
    """Fails where the console or the page reports an error, or asks elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": 844})
    page, wrong = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.set_default_navigation_timeout(PATIENCE)
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else wrong.append(r.url))
    began = time.perf_counter()
    page.goto(address)
    page.get_by_role("tab", name="Map").wait_for()
    print(f"first page after {time.perf_counter() - began:.1f} s")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert not wrong


def _open(page: Any, tab: str, what: str) -> None:
    page.get_by_role("tab", name=tab).click()
    page.get_by_text(what).first.wait_for()


def test_the_map_follows_a_slider_by_the_keyboard_and_simulates(page):
    from playwright.sync_api import expect

    _open(page, "Map", "When does transfer help")
    page.get_by_text("100 × 100 points in").wait_for()
    richness = page.get_by_role("slider").nth(0)
    took = []
    for _ in range(6):
        richness.focus()
        page.evaluate(UNTIL_CHANGED)
        page.keyboard.press("ArrowRight")
        took.append(page.evaluate("window.measured"))
    print(f"map after a key: {np.median(took):.0f} ms, of {np.round(took)}")
    command = page.get_by_label("The same on the command line")
    assert "--set richness=" in command.input_value()
    page.get_by_role("button", name="Simulate this point").press("Enter")
    page.get_by_text("standard errors from the theory").wait_for()
    assert command.input_value().count("--at=") == 1
    figure = page.locator(".bk-events").first
    figure.scroll_into_view_if_needed()
    figure.click(position={"x": 150, "y": 150})
    expect(command).to_have_value(re.compile("--at=.*--at="), timeout=PATIENCE)
    page.get_by_role("button", name="Toggle theme").click()
    page.get_by_text("Reproduce what you see").wait_for()


def test_a_study_shows_rows_curves_and_features(page):
    _open(page, "Study", "Where the verdict comes from")
    for title in ("Rows", "Learning curves", "Features through time"):
        page.get_by_text(title, exact=True).first.wait_for()
    slider = page.get_by_role("slider").last
    slider.focus()
    page.keyboard.press("Home")
    page.get_by_text("Time: 0").first.wait_for()
    page.get_by_label("Study", exact=True).first.select_option("half")
    page.get_by_text("damaged or half written").wait_for()


def test_the_gallery_shows_claims_and_sweeps(page):
    _open(page, "Gallery", "all falls")
    page.get_by_text("31.0 ± 2.0 %").first.wait_for()
    page.get_by_label("Finding or sweep").first.select_option("store")
    page.get_by_text("12 of 12 cases done").wait_for()
    page.locator("canvas").first.wait_for()


def test_figures_do_not_overtake_what_a_busy_connection_holds_back(browser, folder, tmp_path):
    with (
        served(tmp_path / "stderr", folder, "-c", LATE) as address,
        visit(browser, address, width=1280) as page,
    ):
        _open(page, "Map", "When does transfer help")
        page.get_by_text("100 × 100 points in").wait_for()


def test_pages_of_other_origins_are_refused(address):
    """A page elsewhere on the web must not steer what runs here."""
    asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    asked["Sec-WebSocket-Key"] = "MDEyMzQ1Njc4OWFiY2RlZg=="
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/ws", headers={**asked, "Origin": "http://evil.test"})
        assert connection.getresponse().status == 403
