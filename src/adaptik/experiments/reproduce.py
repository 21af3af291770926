"""Compute an experiment, draw it, judge it, and leave everything in a folder."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import xarray as xr

from ..display.reports.folder import as_json, checked_folder, png, write_file
from ..solution.to_xarray import save_dataset
from ..system.errors import (
    DatasetNotFoundError,
    InputError,
    require_integers,
    require_one_of,
)
from ..tasks import DATASETS, images
from . import Entry, verdict
from .finding import Finding
from .images.architecture import ARCHITECTURES, Seen

PRESETS = ("quick", "full")
FILES = ("results.zarr.zip", "verdict.json", "report.html")


@dataclass(frozen=True)
class Outcome:
    """What an experiment said.

    Attributes
    ----------
    experiment, figure, claim
        From the registry.
    word
        ``"reproduced"``, ``"not reproduced"`` (undecided) or ``"differs"`` (contradicted).
    claims
        Each with its numbers.
    agreement
        Of theory and networks.
    caption
        What the figure shows, with every parameter.
    seconds
        Of all cases together.
    """

    experiment: str
    figure: str
    claim: str
    word: verdict.Word
    claims: tuple[verdict.Claim, ...]
    agreement: verdict.Agreement
    caption: str
    seconds: float

    def document(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            "experiment": self.experiment,
            "figure": self.figure,
            "claim": self.claim,
            "verdict": self.word,
            "claims": [
                {f.name: getattr(c, f.name) for f in fields(c)}
                | {"verdict": c.word, "sentence": c.sentence}
                for c in self.claims
            ],
            "agreement": {f.name: getattr(self.agreement, f.name) for f in fields(self.agreement)}
            | {"holds": self.agreement.holds, "sentence": self.agreement.sentence},
            "caption": self.caption,
            "seconds": self.seconds,
        }


def configure(
    finding: Finding,
    preset: str = "quick",
    data: str | None = None,
    patch: int | None = None,
    stride: int | None = None,
    pooling: str | None = None,
) -> Any:
    """The configuration of a preset, on other images or of convolutions where these are asked for.

    Parameters
    ----------
    preset
        ``"quick"`` or ``"full"``.
    data
        Name of a data set of images.
    patch, stride, pooling
        Side of a convolution's patches in pixels, which dense networks then give way to; steps
        between patches, by default their side; ``"root"`` (the default) or ``"average"``.

    Raises
    ------
    InputError
        For an unknown preset, data set or pooling, a patch or stride below 1, data for an
        experiment without images, and patches for one that knows dense networks alone.
    DatasetNotFoundError
        If the images are not on this machine.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown; use one of {', '.join(PRESETS)}")
    config = finding.PRESETS[preset]
    with_images = "data" in {f.name for f in fields(config)}
    if data is not None:
        if not with_images:
            raise InputError("--data: this experiment draws its own data; leave it out")
        if data not in DATASETS:
            raise InputError(f"--data {data!r} is unknown; use one of {', '.join(DATASETS)}")
        config = replace(config, data=data)
    if with_images:
        try:
            images.read(config.data)
        except DatasetNotFoundError as missing:
            raise DatasetNotFoundError(
                f"{missing}. The figure can be seen on other images: --data digits"
            ) from None
    if (patch, stride, pooling) == (None,) * 3:
        return config
    return _convolutional(config, patch, stride, pooling or "root")


def _convolutional(config: Any, patch: int | None, stride: int | None, pooling: str) -> Any:
    if patch is None:
        raise InputError("--stride and --pooling belong to a convolution; give --patch too")
    require_integers(1, **{"--patch": patch, "--stride": patch if stride is None else stride})
    require_one_of(ARCHITECTURES[1:], **{"--pooling": pooling})
    if not isinstance(config, Seen):
        raise InputError(
            "--patch: this experiment compares networks of its own, or knows dense ones alone; "
            "leave it out"
        )
    sizes = dict(patch=patch, stride=patch if stride is None else stride)
    config = replace(config, architecture=pooling, **sizes)
    source, _ = config.load(config.seed)
    config.limit.patches(source)  # which says whether they fit into the images
    return config


def reproduce(entry: Entry, config: Any, folder: str | Path, **sweep: Any) -> Outcome:
    """Run an experiment and write its folder.

    Parameters
    ----------
    entry
        From the registry.
    config
        From :func:`configure`.
    folder
        Made if missing. Gets ``config.json``, ``cases`` (the sweep's store, from which a run that
        was interrupted goes on), ``results.zarr.zip``, ``{name}.png`` and, last, ``verdict.json``.
    sweep
        ``executor``, ``workers`` and ``progress`` of :func:`adaptik.sweeps.sweep`.

    Raises
    ------
    InputError
        Before any computation, if the folder cannot be written to or holds another experiment
        or configuration.
    """
    folder = checked_folder(folder, (*FILES, f"{entry.name}.png"))
    finding = entry.load()
    _settle(folder / "config.json", {"experiment": entry.name, **asdict(config)})
    dataset = finding.compute(config, store=folder / "cases", **sweep)
    save_dataset(dataset, folder / "results.zarr.zip")
    write_file(folder / f"{entry.name}.png", png(finding.draw(dataset)))
    outcome = judge(entry, dataset, config)
    write_file(folder / "verdict.json", as_json(outcome.document()))
    return outcome


def _settle(file: Path, config: dict[str, Any]) -> None:
    """Write down what the folder is for, unless it is there for something else."""
    wanted = as_json(config)
    if file.exists() and file.read_bytes() != wanted:
        raise InputError(
            f"--out: {str(file.parent)!r} holds another experiment or configuration, see "
            f"{file.name} there; choose another folder"
        )
    write_file(file, wanted)


def judge(entry: Entry, dataset: xr.Dataset, config: Any) -> Outcome:
    """The verdict on a data set."""
    finding = entry.load()
    claims = finding.check(dataset)
    compared = getattr(finding, "agreement", verdict.agreement)(dataset)
    return Outcome(
        entry.name,
        entry.figure,
        entry.claim,
        verdict.overall(claims),
        claims,
        compared,
        finding.caption(config),
        float(dataset.seconds.sum()),
    )
