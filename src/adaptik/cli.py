"""The command line. Bad input is one line on standard error and exit code 2."""

import gc
import io
import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from .system import interrupts
from .system.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _main(
    cache: Annotated[
        str | None,
        typer.Option(
            envvar="ADAPTIK_CACHE",
            help="folder for compiled programs, or off [default: the user's cache folder]",
        ),
    ] = None,
) -> None:
    """When does pretraining help? Transfer learning in wide networks that learn features."""
    if cache is not None:
        os.environ["ADAPTIK_CACHE"] = cache  # so that worker processes know


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name} must be numbers separated by commas, got {text!r}") from None


@app.command()
def transfer(
    source: Annotated[
        str, typer.Option(help="data set with classes, or a file: .npz, .csv, .parquet...")
    ] = "digits:1,4",
    target: Annotated[str, typer.Option(help="as --source")] = "digits:1,7",
    n_source: Annotated[
        int | None, typer.Option(help="source training samples [default: 200, or all]")
    ] = None,
    n_target: Annotated[
        int | None, typer.Option(help="target training samples [default: 40, or all]")
    ] = None,
    n_test: Annotated[
        int | None, typer.Option(help="test samples [default: all, at most 1000]")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="labels of files: classes or numbers [default: by their values, said]"),
    ] = None,
    richness: Annotated[str, typer.Option(help="source richness values")] = "0,0.5,1,2,4",
    target_richness: Annotated[str, typer.Option(help="target richness values; 0 is lazy")] = "0,1",
    head: Annotated[str, typer.Option(help="fresh or kept readout on the target")] = "fresh",
    splits: Annotated[int, typer.Option(help="independent draws of the data")] = 1,
    folds: Annotated[int, typer.Option(help="K of the K-fold refits that choose the verdict")] = 4,
    activation: Annotated[
        str, typer.Option(help="linear, relu, erf, tanh, gelu, softplus, hermite(k)...")
    ] = "relu",
    depth: Annotated[int, typer.Option(help="hidden layers")] = 1,
    particles: Annotated[
        int | None, typer.Option(help="particles, or neurons a layer, per replicate")
    ] = None,
    replicates: Annotated[int, typer.Option(help="independent particle systems")] = 4,
    check_width: Annotated[
        int, typer.Option(help="width of the networks that check the theory")
    ] = 1024,
    check_seeds: Annotated[int, typer.Option(help="networks for each split; 0 for none")] = 8,
    seed: Annotated[int, typer.Option(help="fixes data, particles and networks")] = 0,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("adaptik-transfer"),
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="print the verdict alone; the report has the rest")
    ] = False,
) -> None:
    """Does pretraining on SOURCE help on TARGET? Theory at infinite width, checked by networks."""
    from .display.reports import study as page
    from .tasks.labels import checked_kind
    from .transfer.comparison import run
    from .transfer.study import TransferConfig

    interrupts.orderly()
    builtin = {"digits", "fashion-mnist", "cifar10"}
    if n_source is None and source.split(":")[0] in builtin:
        n_source = 200
    if n_target is None and target.split(":")[0] in builtin:
        n_target = 40
    config = TransferConfig(
        source=source,
        target=target,
        n_source=n_source,
        n_target=n_target,
        n_test=n_test,
        kind=checked_kind(kind),
        richness=_numbers(richness, "richness"),
        target_richness=_numbers(target_richness, "target-richness"),
        head=head,
        splits=splits,
        folds=folds,
        activation=activation,
        depth=depth,
        particles=particles,
        replicates=replicates,
        check_width=check_width,
        check_seeds=check_seeds,
        seed=seed,
    )
    if as_json and brief:
        raise InputError("--json and --brief are two ways to print; give one of them")
    page.checked_folder(out, page.FILES)
    study = _with_progress(run, config)
    written = page.write(study, out)
    if as_json:
        _say(json.dumps(page.document(study), indent=1))
    elif brief:
        _say(study.verdict.sentence)
    else:
        _print_table(study, page.all_notes(study))
        _say(f"Report: {written}")
    if not study.complete:
        raise typer.Exit(130)


@app.command("phase-diagram")
def phase_diagram(
    x: Annotated[str, typer.Option(help="axis: name=low:high[:points][:log]")] = "alignment=-1:1",
    y: Annotated[str, typer.Option(help="as --x")] = "nu_target=0.02:0.98",
    quantity: Annotated[
        str, typer.Option(help="gain, loss, change (against no pretraining) or over_rich")
    ] = "gain",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="another quantity: name=value; repeatable")
    ] = None,
    head: Annotated[str, typer.Option(help="fresh or kept readout on the target")] = "fresh",
    finetune: Annotated[str, typer.Option(help="readout, or all weights (lazily)")] = "readout",
    points: Annotated[int, typer.Option(help="points along an axis")] = 81,
    dimension: Annotated[int, typer.Option(help="D of simulations and of covariances")] = 400,
    checks: Annotated[int, typer.Option(help="points that are simulated; 0 for none")] = 6,
    draws: Annotated[int, typer.Option(help="simulations of every such point")] = 20,
    preset: Annotated[
        str | None, typer.Option(help="a paper figure instead: fig1a, fig1b, fig1c or fig2a")
    ] = None,
    seed: Annotated[int, typer.Option(help="fixes simulated points and samples")] = 0,
    out: Annotated[Path, typer.Option(help="folder for picture and data")] = Path(
        "adaptik-phase-diagram"
    ),
) -> None:
    """When does transfer help in linear networks? A map over two quantities, with simulations.

    Quantities: alignment, nu_target, richness, nu_source, noise_alignment, source_noise,
    target_noise, ridge, time, exponent, contrast.
    """
    from .display.reports import diagram as command
    from .linear_theory.diagram import Axis, Diagram
    from .system import programs

    interrupts.orderly()
    programs.keep()
    if preset is not None:
        picture = command.draw_preset(preset, out, draws=draws, seed=seed)
    else:
        given = {}
        for text in settings or []:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"--set {text!r} cannot be read; write name=value")
            (given[name],) = _numbers(value, name)[:1]
        choices: dict[str, Any] = dict(quantity=quantity, head=head, finetune=finetune)
        axes = Axis.parse(x, points), Axis.parse(y, points)
        diagram = Diagram(*axes, settings=given, dimension=dimension, **choices)
        picture = command.draw(diagram, out, checks=checks, draws=draws, seed=seed)
    _say(f"Picture: {picture}")


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file: compute, [grid], [fixed], ...")],
    store: Annotated[Path | None, typer.Option(help="folder for the results")] = None,
    workers: Annotated[int | None, typer.Option(help="processes [default: cores]")] = None,
    dask: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler, tcp://host:port")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="compute failed cases again")
    ] = False,
) -> None:
    """Compute a grid of cases; run it again to go on where it stopped.

    compute = "transfer" takes the arguments of adaptik.transfer.transfer_point.
    """
    from . import sweeps
    from .sweeps.config import read
    from .transfer.point import transfer_point

    interrupts.orderly()
    function, grid, settings = read(config, {"transfer": transfer_point})
    if store is not None:
        settings["store"] = store
    if workers is not None:
        settings["workers"] = workers
    if dask is not None:
        settings["executor"] = dask
    with _kept(settings["store"]), _bar("cases") as show:
        data = sweeps.sweep(function, grid, retry_failed=retry_failed, progress=show, **settings)
    done, failed = (int((data.status == code).sum()) for code in (1, 2))
    _say(f"{done} of {grid.size} cases done, {failed} failed: {settings['store']}")
    texts = data.notes.values.ravel() if "notes" in data else ()
    for note in dict.fromkeys(line for text in texts for line in text.splitlines()):
        _say(f"note: {note}", err=True)
    if failed:
        first = next(text for text in data.error.values.ravel() if text)
        _say(f"first error: {first}", err=True)
        raise typer.Exit(2)


@app.command()
def reproduce(
    figure: Annotated[
        str | None, typer.Argument(help="a paper figure such as fig3a, or an experiment's name")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="list the experiments")] = False,
    everything: Annotated[bool, typer.Option("--all", help="every experiment")] = False,
    preset: Annotated[str, typer.Option(help="quick (minutes) or full (paper scale)")] = "quick",
    data: Annotated[
        str | None, typer.Option(help="other images: cifar10, fashion-mnist or digits")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder [default: adaptik-reproduce/FIGURE-PRESET]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="processes [default: cores]")] = None,
    dask: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler, tcp://host:port")
    ] = None,
) -> None:
    """Compute a figure of the paper, or one of ours: picture, numbers, verdict."""
    from .experiments import EXPERIMENTS, find

    if list_all:
        for entry in EXPERIMENTS:
            _say(f"{entry.figure or '-':6s} {entry.name:34s} {entry.claim}")
        return
    if everything == (figure is not None):
        raise InputError("name one figure, or give --all or --list")
    entries = EXPERIMENTS if everything else (find(figure or ""),)
    if everything and data is not None:
        raise InputError("--data chooses the images of one figure; leave it out with --all")

    from .display.reports import pages
    from .experiments.finding import CaseFailed
    from .experiments.reproduce import configure
    from .experiments.reproduce import reproduce as run

    interrupts.orderly()
    failed = False
    for entry in entries:
        suffix = f"-{data}" if data else ""
        folder = Path("adaptik-reproduce") if out is None else out
        if out is None or everything:
            folder /= f"{entry.figure or entry.name}-{preset}{suffix}"
        config = configure(entry.load(), preset, data)
        _say(f"{entry.figure or 'ours'}, {entry.name}: {entry.claim}")
        _say(f"  {config}")
        try:
            with _kept(folder), _bar(entry.figure or entry.name) as show:
                outcome = run(
                    entry, config, folder, executor=dask or "processes", workers=workers,
                    progress=show,
                )  # fmt: skip
        except CaseFailed as error:
            _say(f"error: {error}", err=True)
            failed = True
            continue
        _say(f"  {outcome.word}")
        for claim in outcome.claims:
            _say(f"  - {claim.sentence}")
        _say(f"  - {outcome.agreement.sentence}")
        for line in outcome.agreement.outliers:
            _say(f"      {line}")
        _say(f"  Report: {pages.write(folder)}")
    if failed:
        raise typer.Exit(2)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="of adaptik reproduce, or the store of a sweep")],
) -> None:
    """Render a folder as one self-contained HTML page."""
    from .display.reports import pages

    interrupts.orderly()
    _say(f"Report: {pages.write(folder)}")


@contextmanager
def _kept(folder: Path):
    """Say what an interrupt leaves."""
    try:
        yield
    except KeyboardInterrupt:
        _say(f"interrupted; finished cases are kept in {folder}: run it again to go on", err=True)
        raise


@contextmanager
def _bar(label: str):
    """A progress bar with the time left, as a function of cases done, failed and in all."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task(label, total=None)

        def show(done: int, failed: int, total: int) -> None:
            text = f"{label}, {failed} failed" if failed else label
            bar.update(job, description=text, completed=done + failed, total=total)

        yield show


def _with_progress(run, config):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        job = bar.add_task("reading data and compiling", total=None)

        def show(label: str, done: int, total: int) -> None:
            bar.update(job, description=label, completed=done, total=total)

        return run(config, show, lambda: console.print("interrupted; keeping what was finished"))


def _print_table(study, notes) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{study.tasks['source']['name']} → {study.tasks['target']['name']}: target test loss"
    )
    for heading in (
        "source γ₁",
        "mode",
        "target γ₂",
        "theory ± s.e.",
        "test-set s.e.",
        "network ± s.e.",
        "diff/s.e.",
        "accuracy",
        "source loss before → after",
        "outcome",
    ):
        table.add_column(heading, justify="left" if heading in ("mode", "outcome") else "right")

    regression = any(row.relative_test_loss is not None for row in study.rows)
    if regression:
        table.title = f"{table.title}, in variances of the training labels"
        typer.echo("Losses in squares of the labels themselves are in rows.json and the report.")

    def show(value, pattern="{:.3f}"):
        return "–" if value is None else pattern.format(value)

    def loss(row, name):
        return getattr(row, f"relative_{name}" if regression else name)

    for row in study.rows:
        network = loss(row, "network_test_loss")
        before, after = (loss(row, f"source_loss_{when}") for when in ("before", "after"))
        table.add_row(
            show(row.source_richness, "{:g}"),
            row.mode,
            show(row.target_richness, "{:g}"),
            f"{loss(row, 'test_loss'):.4f} ± {loss(row, 'test_loss_se'):.4f}",
            show(loss(row, "sampling_se")),
            "–" if network is None else f"{network:.4f} ± {loss(row, 'network_test_loss_se'):.4f}",
            show(row.difference_in_se, "{:+.1f}"),
            show(row.accuracy),
            "–" if before is None else f"{before:.3f} → {after:.3f}",
            row.outcome,
        )
    console = Console(width=None if sys.stdout.isatty() else 150)
    with console.capture() as shown:
        console.print(table)
    _say(shown.get().rstrip())
    for note in notes:
        _say(f"note: {note}")
    _say(study.verdict.sentence)


def _say(text: str, err: bool = False) -> None:
    """Print a line; where that fails what was computed lies on disk, and one line says so."""
    try:
        typer.echo(text, err=err)
    except OSError as error:
        raise OutputLost(error) from error


class OutputLost(InputError):
    """Standard output takes no more: its reader has gone, or its disk is full."""

    def __init__(self, error: OSError):
        super().__init__(f"standard output takes no more: {error.strerror or error}")


def main() -> None:
    """Run what was typed; whatever goes wrong is one line on standard error."""
    if sys.stdout is None or sys.stderr is None:  # closed by who started it
        sys.exit(_said("standard output and standard error must be open"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack the signs of a table
            stream.reconfigure(errors="replace")
    # A home that cannot be written, or a full folder of compiled programs, changes no answer.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _said(str(OutputLost(error)))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it is tried again
    gc.freeze()  # else the interpreter walks all that JAX has made before it exits
    sys.exit(code)


def _said(message: str) -> int:
    """Say what is wrong, in one line, and return the exit code."""
    if sys.stderr is not None:
        with suppress(OSError):
            typer.echo(f"error: {' '.join(message.splitlines())}", err=True)
    return 2


def _run() -> int:
    try:
        app()
    except SystemExit as stop:
        # Typer says nothing where a pipe breaks while it prints a help page.
        code = 2 if stop.code == 1 else int(stop.code or 0)
        return interrupts.code() or code
    except KeyboardInterrupt:
        return interrupts.code() or 130
    except Exception as error:  # an interrupt within an import or a callback can become another
        stopped = interrupts.code()
        if stopped is not None:
            return stopped
        if isinstance(error, InputError):
            return _said(str(error))
        if isinstance(error, MemoryError):
            return _said(f"out of memory ({error}); ask for less")
        if isinstance(error, OSError):
            where = f"{error.filename!r}: " if error.filename else ""
            return _said(f"{where}{error.strerror or error}")
        raise
    return 0
