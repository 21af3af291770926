"""Solutions as xarray data sets: losses, accuracies and predictions with labelled axes."""

import json
import os
import warnings
import zipfile
from typing import Any

import numpy as np
import xarray as xr

from ..system.files import replacing
from ..tasks import Task, accuracy
from .trajectory import Trajectory

SPLITS = ("train", "test")


def to_xarray(solution: Trajectory) -> xr.Dataset:
    """Everything recorded in ``solution`` as one labelled data set.

    Parameters
    ----------
    solution
        Result of :func:`adaptik.solve` or :func:`adaptik.train`.

    Returns
    -------
    xr.Dataset
        Dimension ``time`` runs over the recorded times of all stages, with coordinates
        ``stage`` (index), ``stage_time`` (since the stage's start) and ``total_time``.
        ``loss`` and ``accuracy`` have dimensions ``(time, task, split, member)``,
        ``loss_mean`` and ``loss_standard_error`` ``(time, task, split)``; NaN where undefined:
        no test data, a stage without a head for the task, and for accuracy a task without
        classes. ``prediction__{task}__{split}`` has dimensions ``(time, member,
        sample__{task}__{split}, output__{task})``; slashes in task names become underscores
        in these names. The attributes ``kind``, ``outcomes``, ``versions`` and ``provenance``
        say where it came from (the last three as JSON).

    Examples
    --------
    >>> solution.to_xarray().loss_mean.sel(task="target", split="test")  # doctest: +SKIP
    """
    tasks = list(solution.tasks.values())
    counts = [len(record.times) for record in solution.records]
    shape = (sum(counts), len(tasks), len(SPLITS), solution.members)
    loss, correct = np.full(shape, np.nan), np.full(shape, np.nan)
    predictions = {}
    for i, (task, label) in enumerate(zip(tasks, _labels(tasks), strict=True)):
        for split in task.splits:
            samples = len(task.split(split)[0])
            f = _over_stages(solution, task, split, solution.predictions, samples, task.outputs)
            j = SPLITS.index(split)
            loss[:, i, j] = _over_stages(solution, task, split, solution.losses)
            if task.classes:
                defined = ~np.isnan(f).any(axis=(1, 2, 3))
                correct[defined, i, j] = accuracy(task, f[defined], task.split(split)[1])
            dims = ("time", "member", f"sample__{label}__{split}", f"output__{label}")
            predictions[f"prediction__{label}__{split}"] = (dims, f, {"task": task.name})
    over_members = solution.estimate(np.moveaxis(loss, -1, 0))
    axes = ("time", "task", "split")
    return xr.Dataset(
        {
            "loss": ((*axes, "member"), loss),
            "accuracy": ((*axes, "member"), correct),
            "loss_mean": (axes, over_members.value),
            "loss_standard_error": (axes, over_members.standard_error),
            **predictions,
        },
        coords={
            **_times(solution, counts),
            "task": [task.name for task in tasks],
            "split": list(SPLITS),
            "member": np.arange(solution.members),
        },
        attrs={
            "kind": solution.kind,
            "outcomes": json.dumps([record.outcome.value for record in solution.records]),
            "versions": json.dumps(solution.provenance.get("versions", {}), default=str),
            "provenance": json.dumps(_plain(solution.provenance), default=str),
        },
    )


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike) -> None:
    """Write ``dataset`` as one zip file of zarr arrays, whole or not at all.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written to.
    """
    from zarr.storage import MemoryStore

    # xarray writes metadata twice, which a zip file cannot do: collect the last version first.
    entries: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Labels are strings, whose zarr encoding works but is not final.
        warnings.filterwarnings("ignore", message=".*Zarr V3 specification")
        dataset.to_zarr(MemoryStore(entries), consolidated=False)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in sorted(entries.items()):
            archive.writestr(name, content.to_bytes())


def _times(solution: Trajectory, counts: list[int]) -> dict[str, tuple[str, np.ndarray]]:
    # A stage without an end counts until the last finite time that it recorded.
    lengths = [r.times[np.isfinite(r.times)].max(initial=0.0) for r in solution.records]
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    stage_time = np.concatenate([r.times for r in solution.records])
    return {
        "stage": ("time", np.repeat(np.arange(len(counts)), counts)),
        "stage_time": ("time", stage_time),
        "total_time": ("time", np.repeat(starts, counts) + stage_time),
    }


def _over_stages(solution: Trajectory, task: Task, split: str, ask, *shape: int) -> np.ndarray:
    """What ``ask`` answers for every stage, at all times; NaN where a stage does not define it."""
    found = []
    for i, record in enumerate(solution.records):
        recorded = (task.name, split) in record.predictions
        if recorded and solution.head_of(task, i) is not None:
            found.append(ask(task, split, i))
        else:
            found.append(np.full((len(record.times), solution.members, *shape), np.nan))
    return np.concatenate(found)


def _labels(tasks: list[Task]) -> list[str]:
    """Task names made fit for variable names, where a slash would open a zarr group."""
    labels: list[str] = []
    for task in tasks:
        label = task.name.replace("/", "_")
        while label in labels:
            label += "_"
        labels.append(label)
    return labels


def _plain(value):
    """Dictionary keys as strings, so that JSON can hold them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
