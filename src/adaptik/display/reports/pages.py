"""One self-contained page for what lies in a folder: a sweep's store, or an experiment."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import sweeps
from ...solution.estimate import rounded
from ...sweeps.grid import level_label
from ...sweeps.store import counted, summary
from ...system.errors import InputError
from ..plots.drawn import points
from ..plots.style import STYLE, look
from . import html
from .chart import chart
from .folder import is_page, write_file
from .study import BELOW_ZERO
from .words import text

PICTURES = 8  # of a sweep's results, at most
CURVES = 7  # in one picture, at most
MOODS = {"reproduced": "helps", "differs": "hurts"}


def write(folder: str | Path) -> Path:
    """Render ``folder`` as ``report.html`` beside what it holds.

    Parameters
    ----------
    folder
        The store of a sweep (the page then lies beside it, as ``{store}.html``), or a folder that
        ``adaptik reproduce`` made.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If it holds neither, or the page cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; name one of adaptik sweep or reproduce")
    if (folder / "verdict.json").exists():
        target, page = folder / "report.html", _experiment(folder)
    elif (folder / "zarr.json").exists():
        target, page = folder.with_name(f"{folder.name}.html"), _sweep(folder)
    else:
        raise InputError(
            f"{str(folder)!r} holds no finished experiment and no sweep; name the folder that "
            "adaptik reproduce --out or adaptik sweep --store wrote"
        )
    if target.exists() and not is_page(target):
        raise InputError(
            f"{str(target)!r} is there and is no page of adaptik's; move it, or the folder"
        )
    write_file(target, page.encode(errors="replace"))
    return target


def _experiment(folder: Path) -> str:
    try:
        said = json.loads((folder / "verdict.json").read_text())
        config = json.loads((folder / "config.json").read_text())
        picture = (folder / f"{said['experiment']}.png").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{str(folder)!r} is damaged ({error}); reproduce it again") from error
    word, agreement = said["verdict"], said["agreement"]
    rows = [
        [c["statement"], c["verdict"], *(_value(c, side) for side in ("", "network_"))]
        for c in said["claims"]
    ]
    head = ("claim", "verdict", "theory", "networks or simulations")
    claim = said["claim"][:1].upper() + said["claim"][1:]
    title = said["experiment"].replace("_", " ")
    body = [
        html.first(
            html.banner(claim, MOODS.get(word, "open"), word.capitalize()),
            html.picture(title, "", picture),
            html.next_steps(_after_finding(said, config)),
            html.facts(
                [("claims", f"{_count(said)} reproduced"), ("agreement", _agree(agreement))]
            ),
        ),
        f"<p>{text(said['caption'])}</p>",
        html.section("Claims", html.table(head, rows)),
        html.section(
            "Theory and networks",
            html.bullets([agreement["sentence"], *agreement["outliers"]]),
        ),
    ]
    if said["figure"]:
        title = f"{said['figure']}: {title}"
    return html.page("the paper, reproduced", title, body, config)


def _count(said: dict[str, Any]) -> str:
    words = [claim["verdict"] for claim in said["claims"]]
    return f"{words.count('reproduced')} of {len(words)}"


def _agree(agreement: dict[str, Any]) -> str | None:
    if not agreement["points"]:
        return None
    return f"{agreement['within']} of {agreement['points']} points within 3 s.e."


def _after_finding(said: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str]]:
    """The larger scale, other images, and the numbers themselves."""
    name = said["figure"] or said["experiment"]
    steps = [
        ("At the paper's scale, which takes longer:", f"adaptik reproduce {name} --preset full")
    ]
    if "data" in config:
        other = "digits" if config["data"] != "digits" else "fashion-mnist"
        steps.append(("On other images:", f"adaptik reproduce {name} --data {other}"))
    load = 'xarray.open_zarr(zarr.storage.ZipStore("results.zarr.zip"), consolidated=False)'
    return [*steps, ("Every number, in Python:", load)]


def _value(claim: dict[str, Any], side: str) -> str | None:
    value, error = claim["network" if side else "value"], claim[f"{side}standard_error"]
    return None if value is None else rounded(value, error, unit=claim["unit"].strip())


def _sweep(store: Path) -> str:
    data = sweeps.load(store)
    axes = [str(d) for d in data.status.dims]
    counts = counted(data)
    failures = [text for text in np.unique(data.error.values.astype(str)) if text]
    mood = "helps" if counts["done"] == data.status.size else "open"
    drawn = {
        str(name): variable
        for name, variable in data.data_vars.items()
        if name != "status" and variable.dtype.kind in "fiu" and variable.dims == data.status.dims
    }
    rows = [
        [name, *(f(values) if values.size else None for f in (np.mean, np.min, np.max))]
        for name, values in ((n, _known(v.values)) for n, v in drawn.items())
    ]
    levels = [[a, data.sizes[a], ", ".join(level_label(v) for v in data[a].values)] for a in axes]
    charts = [
        chart(name, *_drawn(name, variable), f"{name} over the grid")
        for name, variable in _ordered(drawn)[:PICTURES]
    ]
    steps = html.next_steps(_after_sweep(store, counts, failures))
    body = [
        html.first(html.banner(summary(data), mood), "".join(charts[:1]), steps),
        html.section("Axes", html.table(("axis", "values", ""), levels)),
        html.section("Results", html.table(("", "mean", "smallest", "largest"), rows)),
        _signs(drawn),
        html.two(charts[1:]),
        html.section("Failures", html.bullets(failures)) if failures else "",
    ]
    config = {name: json.loads(data.attrs[name]) for name in ("config", "versions")}
    config["config_hash"] = json.loads(data.attrs["config_hash"])
    return html.page("a sweep", store.name, body, config)


def _ordered(drawn: dict[str, xr.DataArray]) -> list[tuple[str, xr.DataArray]]:
    """What can be drawn, losses first, without what was never computed."""
    known = [(n, v) for n, v in drawn.items() if n != "seconds" and _known(v.values).size]
    return sorted(known, key=lambda item: item[0] != "loss")


def _after_sweep(store: Path, counts: dict[str, int], failures: list[str]) -> list[tuple[str, str]]:
    """What is missing first, then how to go on with the numbers."""
    steps = []
    if counts["missing"]:
        steps.append((f"{counts['missing']} cases are missing: run the same sweep again.", ""))
    if failures:
        said = f"Failed cases are tried again on demand; the first said: {failures[0][:160]}"
        steps.append((said, "adaptik sweep CONFIG.toml --retry-failed"))
    return [*steps, ("All numbers, in Python:", f"data = adaptik.sweeps.load({str(store)!r})")]


def _signs(drawn: dict[str, xr.DataArray]) -> str:
    """What a loss below 0 means, where there is one."""
    below = [n for n, v in drawn.items() if "loss" in n and (_known(v.values) < 0).any()]
    said = f"{', '.join(below)}: {BELOW_ZERO}"
    return html.section("Notes", html.bullets([said])) if below else ""


def _drawn(name: str, variable: xr.DataArray) -> tuple[str, list[Figure]]:
    """Caption and picture: over the longest axis of numbers, one curve a level of another one."""
    sizes = {str(d): variable.sizes[d] for d in variable.dims if variable.sizes[d] > 1}
    numeric = [d for d in sizes if variable[d].dtype.kind in "fiu"]
    x = max(numeric, key=lambda d: sizes[d]) if numeric else str(variable.dims[0])
    others = [d for d in sizes if d != x and sizes[d] <= CURVES]
    over = max(others, key=lambda d: sizes[d]) if others else None
    rest = [str(d) for d in variable.dims if d not in (x, over)]
    mean, spread = variable.mean(rest), variable.std(rest)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        ax = figure.add_subplot()
        positions = variable[x].values if x in numeric else np.arange(variable.sizes[x])
        for i in range(1 if over is None else sizes[over]):
            here = {} if over is None else {over: i}
            label = name if over is None else f"{over} = {level_label(variable[over].values[i])}"
            values = mean.isel(here).values.astype(float)
            error = spread.isel(here).values if rest else np.full(values.shape, np.nan)
            points(ax, positions, values, error, label=label, kind="", **look(i))
        ax.set(xlabel=x, ylabel=name)
        if x not in numeric:
            ax.set_xticks(positions, [level_label(v) for v in variable[x].values])
    averaged = [d for d in rest if variable.sizes[d] > 1]
    said = f"mean and standard deviation over {', '.join(averaged)}" if averaged else "every case"
    return f"{name} against {x}: {said}.", [figure]


def _known(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]
