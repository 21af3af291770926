"""The gallery page: every finished experiment with its command, caption, verdict and picture.

    python -m adaptik.experiments.gallery RESULTS DOCS

RESULTS is what ``adaptik reproduce --all --out RESULTS`` wrote.
"""

import json
import sys
import warnings
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from ..display.reports.folder import checked_folder, png, write_file
from ..system.errors import InputError
from . import EXPERIMENTS, Entry

HEAD = """# Gallery

Every figure of the paper and ours beyond it, computed here with the preset `quick`; `make gallery`
makes this page. Lines are infinite width, points finite networks (in figures of linear networks:
simulations of finite samples). *Reproduced* means that every claim holds with a confidence of
97.5 %, *differs* that one is contradicted as clearly, *not reproduced* that the numbers leave it
open. [Differences](notes/differences.md) says what we found that is not in the paper.
`adaptik reproduce --list` lists the names; `--preset full` is the paper's scale (width 20 000),
`--data fashion-mnist` or `--data digits` shows figures of images on other data, `--patch 8`
figures [of a convolution](notes/convolution.md#the-papers-figures-with-a-convolution), which
reproduces figure 4 on CIFAR-10.

| figure | finding | verdict | theory and networks within 3 s.e. |
|---|---|---|---|
"""
LARGEST = 80_000  # bytes of a picture


def write(results: Path, docs: Path) -> Path:
    """Write ``gallery.md`` and ``figures/gallery/*.png`` from the folders in ``results``.

    Experiments without a verdict there are listed as not computed.

    Raises
    ------
    InputError
        If there is no verdict at all.
    """
    rows, parts = [], []
    for entry in EXPERIMENTS:
        folder = results / f"{entry.figure or entry.name}-quick"
        if not (folder / "verdict.json").exists():
            rows.append(f"| {entry.figure or 'ours'} | {entry.claim} | not computed | |")
            continue
        said = json.loads((folder / "verdict.json").read_text())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr on strings
            dataset = xr.open_zarr(_unpacked(folder), consolidated=False).load()
        pictures = docs / "figures" / "gallery"
        write_file(
            checked_folder(pictures) / f"{entry.name}.png",
            small(entry.load().draw(dataset)),
        )
        agreement = said["agreement"]
        rows.append(
            f"| {entry.figure or 'ours'} | [{entry.claim}](#{entry.name}) | {said['verdict']} | "
            f"{agreement['within']} of {agreement['points']} |"
        )
        parts.append(_part(entry, said))
    if not parts:
        raise InputError(
            f"{str(results)!r} has no verdicts; run adaptik reproduce --all --out {results}"
        )
    page = docs / "gallery.md"
    write_file(page, (HEAD + "\n".join(rows) + "\n\n" + "\n".join(parts)).encode())
    return page


def _unpacked(folder: Path):
    from zarr.storage import ZipStore

    return ZipStore(folder / "results.zarr.zip", mode="r")


def _part(entry: Entry, said: dict) -> str:
    lines = [f"- {claim['sentence']}" for claim in said["claims"]]
    lines.append(f"- {said['agreement']['sentence']}")
    lines += [f"  - {line}" for line in said["agreement"]["outliers"]]
    name = entry.name.replace("_", " ")
    return (
        f'<a id="{entry.name}"></a>\n## {entry.figure + ": " if entry.figure else ""}{name}\n\n'
        f"`adaptik reproduce {entry.figure or entry.name}`: **{said['verdict']}**\n\n"
        + "\n".join(lines)
        + f"\n\n![{name}](figures/gallery/{entry.name}.png)\n\n{said['caption']}\n"
    )


def small(figure: Figure) -> bytes:
    """The picture in at most 80 kB, as sharp as that allows."""
    for dpi in (110, 90, 75, 60, 50):
        picture = png(figure, dpi, pil_kwargs={"optimize": True})
        if len(picture) < LARGEST:
            break
    return picture


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]), Path(sys.argv[2]))}\n")
