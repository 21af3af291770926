"""One self-contained page for what lies in a folder: a sweep's store, or an experiment."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import sweeps
from ...system.errors import InputError
from ..plots.style import STYLE, look
from . import html
from .folder import is_page, png, write_file
from .study import BELOW_ZERO

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
        target, text = folder / "report.html", _experiment(folder)
    elif (folder / "zarr.json").exists():
        target, text = folder.with_name(f"{folder.name}.html"), _sweep(folder)
    else:
        raise InputError(
            f"{str(folder)!r} holds no finished experiment and no sweep; name the folder that "
            "adaptik reproduce --out or adaptik sweep --store wrote"
        )
    if target.exists() and not is_page(target):
        raise InputError(
            f"{str(target)!r} is there and is no page of adaptik's; move it, or the folder"
        )
    write_file(target, text.encode(errors="replace"))
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
    body = [
        html.banner(f"{word}: {said['claim']}", MOODS.get(word, "open")),
        html.section("Claims", html.table(head, rows)),
        html.figure("Figure", said["caption"], picture),
        html.section(
            "Theory and networks",
            html.bullets([agreement["sentence"], *agreement["outliers"]]),
        ),
    ]
    title = said["experiment"].replace("_", " ")
    if said["figure"]:
        title = f"{said['figure']}: {title}"
    return html.page("the paper, reproduced", title, body, config)


def _value(claim: dict[str, Any], side: str) -> str | None:
    value, error = claim["network" if side else "value"], claim[f"{side}standard_error"]
    if value is None:
        return None
    scale, unit = (100, " %") if claim["unit"] == "%" else (1, claim["unit"])
    text = f"{scale * value:.4g}" if not error else f"{scale * value:.4g} ± {scale * error:.2g}"
    return text + unit


def _sweep(store: Path) -> str:
    data = sweeps.load(store)
    axes = [str(d) for d in data.status.dims]
    counts = {word: int((data.status == code).sum()) for code, word in enumerate(_STATUS)}
    failures = [text for text in np.unique(data.error.values.astype(str)) if text]
    total = data.status.size
    mood = "helps" if counts["done"] == total else "open"
    sentence = f"{counts['done']} of {total} cases done, {counts['failed']} failed"
    drawn = {
        str(name): variable
        for name, variable in data.data_vars.items()
        if name != "status" and variable.dtype.kind in "fiu" and variable.dims == data.status.dims
    }
    rows = [
        [name, *(f(values) if values.size else None for f in (np.mean, np.min, np.max))]
        for name, values in ((n, _known(v.values)) for n, v in drawn.items())
    ]
    levels = [[a, data.sizes[a], ", ".join(_level(v) for v in data[a].values)] for a in axes]
    body = [
        html.banner(sentence, mood),
        html.section("Axes", html.table(("axis", "values", ""), levels)),
        html.section("Results", html.table(("", "mean", "smallest", "largest"), rows)),
        _signs(drawn),
        *(
            html.figure(name, *_drawn(name, variable))
            for name, variable in list(drawn.items())[:PICTURES]
            if name != "seconds"
        ),
        html.section("Failures", html.bullets(failures)) if failures else "",
    ]
    config = {name: json.loads(data.attrs[name]) for name in ("config", "versions")}
    config["config_hash"] = json.loads(data.attrs["config_hash"])
    return html.page("a sweep", store.name, body, config)


def _signs(drawn: dict[str, xr.DataArray]) -> str:
    """What a loss below 0 means, where there is one."""
    below = [n for n, v in drawn.items() if "loss" in n and (_known(v.values) < 0).any()]
    said = f"{', '.join(below)}: {BELOW_ZERO}"
    return html.section("Notes", html.bullets([said])) if below else ""


_STATUS = ("missing", "done", "failed")


def _drawn(name: str, variable: xr.DataArray) -> tuple[str, bytes]:
    """Caption and picture: over the longest axis of numbers, one curve a level of another one."""
    sizes = {str(d): variable.sizes[d] for d in variable.dims if variable.sizes[d] > 1}
    numeric = [d for d in sizes if variable[d].dtype.kind in "fiu"]
    x = max(numeric, key=lambda d: sizes[d]) if numeric else str(variable.dims[0])
    others = [d for d in sizes if d != x and sizes[d] <= CURVES]
    curve = max(others, key=lambda d: sizes[d]) if others else None
    rest = [str(d) for d in variable.dims if d not in (x, curve)]
    mean, spread = variable.mean(rest), variable.std(rest)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        ax = figure.add_subplot()
        positions = variable[x].values if x in numeric else np.arange(variable.sizes[x])
        for i in range(1 if curve is None else sizes[curve]):
            here = {} if curve is None else {curve: i}
            label = None if curve is None else f"{curve} = {_level(variable[curve].values[i])}"
            ax.errorbar(
                positions,
                mean.isel(here).values,
                spread.isel(here).values if rest else None,
                markersize=5,
                capsize=2,
                label=label,
                **look(i),
            )
        ax.set(xlabel=x, ylabel=name)
        if x not in numeric:
            ax.set_xticks(positions, [_level(v) for v in variable[x].values])
        if curve is not None:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    averaged = [d for d in rest if variable.sizes[d] > 1]
    over = f"mean and standard deviation over {', '.join(averaged)}" if averaged else "every case"
    return f"{name} against {x}: {over}.", png(figure)


def _known(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _level(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
