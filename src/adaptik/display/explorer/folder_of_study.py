"""A study's folder as data: rows, curves, moments of the features, and how it was decided."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...system.errors import InputError
from ...transfer.study import label_of

MODES = ("scratch", "readout", "lazy", "rich")
WORDS = {
    "scratch": "no pretraining",
    "readout": "train the readout",
    "lazy": "fine-tune lazily",
    "rich": "fine-tune richly",
}
COLUMNS = {
    "mode": "target stage",
    "source_richness": "source γ₁",
    "target_richness": "target γ₂",
    "stop": "stops at time",
    "test_loss": "test loss",
    "test_loss_se": "± s.e.",
    "network_test_loss": "networks",
    "network_test_loss_se": "± s.e. ",
    "difference_in_se": "networks − theory, s.e.",
    "accuracy": "accuracy",
    "cv_loss": "held-out loss",
    "source_loss_before": "source loss before",
    "source_loss_after": "after",
    "outcome": "outcome",
}


@dataclass(frozen=True)
class StudyFolder:
    """What ``adaptik transfer`` left.

    Attributes
    ----------
    path
        The folder.
    rows
        One row for each combination, losses in the unit in which outputs are comparable.
    verdict, config, tasks
        As in ``rows.json`` and ``config.json``.
    notes
        With what is missing.
    complete
        Whether the study was finished.
    evolution
        Curves and moments (:func:`adaptik.transfer.evolution.to_xarray`); ``None`` if missing.
    unit
        Of the losses, in words.
    """

    path: Path
    rows: pd.DataFrame
    verdict: dict[str, Any]
    config: dict[str, Any]
    tasks: dict[str, Any]
    notes: tuple[str, ...]
    complete: bool
    evolution: xr.Dataset | None
    unit: str

    @property
    def title(self) -> str:
        return " → ".join(str(self.tasks.get(t, {}).get("name", t)) for t in ("source", "target"))


def read(folder: str | Path) -> StudyFolder:
    """Read a folder of ``adaptik transfer``.

    Raises
    ------
    InputError
        If it is damaged or half written.
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / "rows.json").read_bytes())
        config = json.loads((folder / "config.json").read_bytes())
        rows, unit = _in_one_unit(pd.DataFrame(said["rows"]))
        verdict, tasks = dict(said["verdict"]), dict(said["tasks"])
        notes, complete = tuple(map(str, said["notes"])), bool(said["complete"])
        verdict["sentence"] = str(verdict["sentence"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"the study in {str(folder)!r} is damaged or half written ({what}); run adaptik "
            "transfer again"
        ) from error
    evolution, lacking = _evolution(folder / "evolution.zarr.zip")
    notes = (*notes, lacking) if lacking else notes
    return StudyFolder(folder, rows, verdict, config, tasks, notes, complete, evolution, unit)


def _in_one_unit(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Losses in label variances where they are known, as they are for regression."""
    rows = rows.reindex(columns=list(dict.fromkeys([*COLUMNS, "cv_loss_se", *rows.columns])))
    numbers = [c for c in rows.columns if c not in ("mode", "outcome")]
    rows[numbers] = rows[numbers].apply(pd.to_numeric)
    relative = [c for c in rows.columns if c.startswith("relative_")]
    unit = "squares of the labels"
    if relative and rows[relative].notna().to_numpy().any():
        for column in relative:
            rows[column.removeprefix("relative_")] = rows[column]
        unit = "variances of the labels"
    return rows.drop(columns=relative), unit


def _evolution(file: Path) -> tuple[xr.Dataset | None, str]:
    """Curves and moments, or why they are missing."""
    from zarr.storage import ZipStore

    if not file.exists():
        return None, "no curves and kernels were kept; run adaptik transfer again to see them"
    try:
        store = ZipStore(file, mode="r")
        try:
            return xr.open_zarr(store, consolidated=False).load(), ""
        finally:
            store.close()
    except Exception:  # any bytes can lie there
        return None, f"{file.name} is damaged; run adaptik transfer again to see curves and kernels"


def table(study: StudyFolder) -> pd.DataFrame:
    """The rows under their titles, columns without any entry left out."""
    rows = study.rows.reindex(columns=list(COLUMNS))
    rows["mode"] = [WORDS.get(str(mode), str(mode)) for mode in rows["mode"]]
    rows.columns = [COLUMNS[name] for name in rows.columns]
    return rows.dropna(axis=1, how="all").reset_index(drop=True)


def judged(study: StudyFolder) -> pd.DataFrame:
    """How the verdict came about: one line for each row.

    Returns
    -------
    DataFrame
        ``label``, ``held_out`` and ``held_out_se`` (what the choice was made on), ``test_loss`` and
        ``test_loss_se``, ``pretrained`` (anything of the source enters) and ``chosen``: the best
        of both kinds by held-out loss, as the verdict compares them.
    """
    rows = study.rows
    kept = study.config.get("head") == "kept"
    informed = (rows.source_richness.fillna(0) > 0) | (kept & (rows["mode"] != "scratch"))
    made = pd.DataFrame(
        {
            "label": [
                label_of(*row)
                for row in zip(
                    rows["mode"], rows.source_richness, rows.target_richness, strict=True
                )
            ],
            "held_out": rows.cv_loss,
            "held_out_se": rows.cv_loss_se,
            "test_loss": rows.test_loss,
            "test_loss_se": rows.test_loss_se,
            "pretrained": informed,
            "chosen": False,
        }
    )
    if study.complete:
        for _, kind in made.groupby("pretrained"):
            if kind.held_out.notna().any():
                made.loc[kind.held_out.idxmin(), "chosen"] = True
    return made


@dataclass(frozen=True)
class Series:
    """A curve to draw: theory as a line with a band, networks as points with bars."""

    label: str
    origin: str
    source_richness: float
    times: np.ndarray
    loss: np.ndarray
    error: np.ndarray


def curves(study: StudyFolder, stage: str, task: str, mode: str, target: Any) -> list[Series]:
    """Curves of one stage on one task, of rows with a mode; times that are finite and above 0."""
    data = study.evolution
    if data is None or "curve_loss" not in data:
        return []
    relative = "curve_relative_loss" in data and bool(data.curve_relative_loss.notnull().any())
    names = ("relative_loss", "relative_error") if relative else ("loss", "standard_error")
    found: list[Series] = []
    seen = set()
    for i in range(data.sizes["curve"]):
        one = data.isel(curve=i)
        about = {n: one[f"curve_{n}"].item() for n in ("origin", "mode", "stage", "task")}
        g1, g2 = (one[f"curve_{n}_richness"].item() for n in ("source", "target"))
        if (about["stage"], about["task"]) != (stage, task):
            continue
        if stage == "target" and (about["mode"], _key(g2)) != (mode, _key(target)):
            continue
        if stage == "source" and (about["origin"], g1) in seen:  # shared by rows
            continue
        seen.add((about["origin"], g1))
        time = one.curve_times.values
        loss, error = (one[f"curve_{name}"].values for name in names)
        fine = np.isfinite(time) & (time > 0) & np.isfinite(loss)
        label = f"γ₁ = {g1:g}" if _known(g1) else "no pretraining"
        found.append(Series(label, about["origin"], g1, time[fine], loss[fine], error[fine]))
    return found


def ways(study: StudyFolder) -> dict[str, tuple[str, float | None]]:
    """Ways to use the target that have curves, by name: mode and target richness."""
    data = study.evolution
    if data is None or "curve_mode" not in data.coords:
        return {}
    pairs = zip(data.curve_mode.values, data.curve_target_richness.values, strict=True)
    known = {(str(m), None if np.isnan(g) else float(g)) for m, g in pairs}
    order = sorted(known, key=lambda pair: (MODES.index(pair[0]), pair[1] or 0.0))
    return {label_of(mode, None, g2): (mode, g2) for mode, g2 in order}


def sequences(study: StudyFolder) -> dict[str, np.ndarray]:
    """Stages whose features move, by name: places of their moments in order of time."""
    data = study.evolution
    if data is None or "kernel" not in data:
        return {}
    found: dict[str, list[int]] = {}
    for i in range(data.sizes["moment"]):
        g1, g2 = (float(data[f"moment_{n}_richness"][i]) for n in ("source", "target"))
        name = f"source stage, γ₁ = {g1:g}"
        if str(data.moment_stage[i].item()) == "target":
            name = f"target stage, γ₂ = {g2:g} (γ₁ = {g1:g})"
        found.setdefault(name, []).append(i)
    return {name: np.array(places) for name, places in found.items()}


def _known(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _key(value: Any) -> float | None:
    return float(value) if _known(value) else None
