"""The command line. Bad input is one line on standard error and exit code 2."""

import gc
import inspect
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from .display import terminal
from .display.terminal import OutputLost, bar_of_cases, escaped, say
from .system import interrupts
from .system.errors import InputError
from .transfer.options import TransferConfig, allowed_words, annotations

if TYPE_CHECKING:
    from .experiments import Entry

SAMPLES = {"n_source": "source", "n_target": "target"}  # whose default depends on the data

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class Explained(TyperCommand):
    """A command that says what it needs where nothing is typed; exit code 2, as ``adaptik``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            say(terminal.TRANSFER)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"adaptik {version('adaptik')}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say it and end")
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option(
            envvar="ADAPTIK_CACHE",
            help=escaped("folder for compiled programs, or off [default: the user's cache]"),
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


def _offer(words: Sequence[str]) -> Callable[[str], list[str]] | None:
    """Completions of the shell."""
    return (lambda incomplete: [w for w in words if w.startswith(incomplete)]) if words else None


def _options_of(config: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a configuration as options, before its own.

    Several numbers are typed with commas; words that are allowed are checked by the configuration.
    """
    parameters = []
    for name, (kind, option) in annotations(config).items():
        default = getattr(config, name)
        if name in SAMPLES:  # depends on the data
            default = None
        if isinstance(default, tuple):
            kind, default = str, ",".join(f"{value:g}" for value in default)
        elif kind is not int and kind != (int | None):
            kind = str if default is not None else str | None
        if name == "source":  # of several the best is asked
            kind, default = list[str], [default]
        words = allowed_words(annotations(config)[name][0])
        shown: Any = dict(help=escaped(option.help), rich_help_panel=option.group)
        typed: Any = Annotated[kind, typer.Option(**shown, autocompletion=_offer(words))]
        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        parameters.append(parameter.replace(annotation=typed))

    def given(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters.values()
        own = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        command.__signature__ = inspect.Signature([*parameters, *own])  # pyright: ignore[reportFunctionMemberAccess]
        return command

    return given


def typed_configs(typed: dict[str, Any]) -> list[TransferConfig]:
    """The configurations that were typed, one for each source."""
    return [_typed_config(dict(typed, source=source)) for source in typed["source"]]


def _typed_config(typed: dict[str, Any]) -> TransferConfig:
    """Files give all their samples, data sets some."""
    from .tasks import DATASETS

    for name, side in SAMPLES.items():
        if typed[name] is None and typed[side].split(":")[0] in DATASETS:
            typed[name] = getattr(TransferConfig, name)
    for name in ("richness", "target_richness"):
        typed[name] = _numbers(typed[name], name.replace("_", "-"))
    return TransferConfig(**typed)


@app.command(cls=Explained, short_help="Does pretraining on one task help on another?")
@_options_of(TransferConfig)
def transfer(
    *,
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("adaptik-transfer"),
    verbose: Annotated[bool, typer.Option("--verbose", help="all columns, of any width")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="print the verdict alone; the report has the rest")
    ] = False,
    **typed: Any,
) -> None:
    """Does pretraining on SOURCE help on TARGET? Theory at infinite width, checked by networks.

    With --source several times: which of them helps most?
    """
    from .display.reports.folder import checked_folder
    from .display.reports.study import FILES, all_notes, document, write
    from .transfer.comparison import run

    interrupts.orderly()
    config, *others = typed_configs(typed)
    ways = [f"--{n}" for n, on in dict(json=as_json, brief=brief, verbose=verbose).items() if on]
    if len(ways) > 1:
        raise InputError(f"{' and '.join(ways)} are ways to print; give one of them")
    if others:
        _rank([config, *others], out, as_json, brief, verbose)
        return
    checked_folder(out, FILES)
    with terminal.bar("reading data and compiling", width=28) as show:
        study = run(config, show, _interrupted)
    written = write(study, out)
    if as_json:
        say(json.dumps(document(study), indent=1))
    elif brief:
        say(study.verdict.sentence)
    else:
        terminal.print_study(study, all_notes(study), verbose)
        say(f"Report: {written}")
    if not study.complete:
        raise typer.Exit(130)


def _interrupted() -> None:
    say("interrupted; keeping what was finished", err=True)


def _rank(
    configs: list[TransferConfig], out: Path, as_json: bool, brief: bool, verbose: bool
) -> None:
    """Which of several sources is best: every study with its report, and their order."""
    from .display.reports import ranking as reports
    from .display.reports.study import all_notes
    from .transfer.ranking import rank

    reports.check(out, len(configs))
    with terminal.bar("reading data and compiling", width=28) as show:
        ranking = rank(configs, show, _interrupted)
    written = reports.write(ranking, out)
    if as_json:
        say(json.dumps(reports.document(ranking), indent=1))
    elif brief:
        say(ranking.sentence)
    else:
        for study in ranking.studies if verbose else ():
            terminal.print_study(study, all_notes(study), verbose)
        terminal.print_ranking(ranking)
        say(f"Report: {written}")
    if not ranking.complete:
        raise typer.Exit(130)


@app.command("phase-diagram", short_help="A map of when transfer helps in linear networks.")
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
    at: Annotated[
        list[str] | None, typer.Option(help="x,y of a point to simulate instead; repeatable")
    ] = None,
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
    from .display.reports.diagram import draw, draw_preset
    from .linear_theory.diagram import Axis, Diagram
    from .system import programs

    interrupts.orderly()
    programs.keep()
    if preset is not None:
        with terminal.bar(preset) as show:
            picture = draw_preset(preset, out, draws=draws, seed=seed, progress=show)
    else:
        given = {}
        for text in settings or []:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"--set {text!r} cannot be read; write name=value")
            (given[name],) = _numbers(value, name)[:1]
        if at:
            checks = _points(at)  # pyright: ignore[reportAssignmentType]
        choices: dict[str, Any] = dict(quantity=quantity, head=head, finetune=finetune)
        axes = Axis.parse(x, points), Axis.parse(y, points)
        diagram = Diagram(*axes, settings=given, dimension=dimension, **choices)
        with terminal.bar("phase diagram") as show:
            picture = draw(diagram, out, checks=checks, draws=draws, seed=seed, progress=show)
    say(f"Picture: {picture}")


def _points(texts: list[str]) -> list[tuple[float, ...]]:
    points = [_numbers(text, "--at") for text in texts]
    if any(len(point) != 2 for point in points):
        raise InputError(f"--at takes x,y, got {texts}")
    return points


@app.command(short_help="Compute a grid of cases; goes on where it stopped.")
def sweep(
    config: Annotated[
        Path, typer.Argument(help=escaped("TOML file: compute, [grid], [fixed], ..."))
    ],
    store: Annotated[Path | None, typer.Option(help="folder for the results")] = None,
    workers: Annotated[int | None, typer.Option(help=escaped("processes [default: cores]"))] = None,
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
    from .sweeps.store import counted, summary
    from .transfer.point import transfer_point

    interrupts.orderly()
    function, grid, settings = read(config, {"transfer": transfer_point})
    if store is not None:
        settings["store"] = store
    if workers is not None:
        settings["workers"] = workers
    if dask is not None:
        settings["executor"] = dask
    with _kept(settings["store"]), bar_of_cases("cases") as show:
        data = sweeps.sweep(function, grid, retry_failed=retry_failed, progress=show, **settings)
    say(f"{summary(data)}: {settings['store']}")
    texts = data.notes.values.ravel() if "notes" in data else ()
    for note in dict.fromkeys(line for text in texts for line in text.splitlines()):
        say(f"note: {note}", err=True)
    if counted(data)["failed"]:
        first = next(text for text in data.error.values.ravel() if text)
        say(f"first error: {first}", err=True)
        raise typer.Exit(2)


def _figures(incomplete: str) -> list[str]:
    from .experiments import EXPERIMENTS

    names = [name for entry in EXPERIMENTS for name in (entry.figure, entry.name) if name]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


@app.command(short_help="A figure of the paper, or one of ours: picture and verdict.")
def reproduce(
    figure: Annotated[
        str | None,
        typer.Argument(
            help="a paper figure such as fig3a, or an experiment's name", autocompletion=_figures
        ),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="list the experiments")] = False,
    everything: Annotated[bool, typer.Option("--all", help="every experiment")] = False,
    preset: Annotated[str, typer.Option(help="quick (minutes) or full (paper scale)")] = "quick",
    data: Annotated[
        str | None, typer.Option(help="other images: cifar10, fashion-mnist or digits")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(help="a convolution in place of dense networks: pixels a side")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help=escaped("pixels between its patches [default: a side]"))
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help=escaped("of its patches: root or average [default: root]"))
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=escaped("folder [default: adaptik-reproduce/FIGURE-PRESET]"))
    ] = None,
    workers: Annotated[int | None, typer.Option(help=escaped("processes [default: cores]"))] = None,
    dask: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler, tcp://host:port")
    ] = None,
) -> None:
    """Compute a figure of the paper, or one of ours: picture, numbers, verdict."""
    from .experiments import EXPERIMENTS, find

    if list_all:
        for entry in EXPERIMENTS:
            say(f"{entry.figure or '-':6s} {entry.name:34s} {entry.claim}")
        return
    if everything == (figure is not None):
        raise InputError("name one figure, or give --all or --list")
    entries = EXPERIMENTS if everything else (find(figure or ""),)
    chosen = dict(data=data, patch=patch, stride=stride, pooling=pooling)
    for name, value in chosen.items() if everything else ():
        if value is not None:
            raise InputError(f"--{name} is for one figure; leave it out with --all")

    interrupts.orderly()
    where: dict[str, Any] = dict(executor=dask or "processes", workers=workers)

    def folder(entry: "Entry") -> Path:
        if out is not None and not everything:
            return out
        sizes = [f"{k}{chosen[k]}" for k in ("patch", "stride") if chosen[k] is not None]
        suffix = "-".join(["", preset, *filter(None, (data, *sizes, pooling))])
        above = Path("adaptik-reproduce") if out is None else out
        return above / f"{entry.figure or entry.name}{suffix}"

    if not all([_reproduced(entry, folder(entry), preset, chosen, where) for entry in entries]):
        raise typer.Exit(2)


def _reproduced(
    entry: "Entry", folder: Path, preset: str, chosen: dict[str, Any], where: dict[str, Any]
) -> bool:
    """Compute one experiment and say what it found; whether all of its cases could be computed."""
    from .display.reports import pages
    from .experiments.finding import CaseFailed
    from .experiments.reproduce import configure, reproduce

    config = configure(entry.load(), preset, **chosen)
    say(f"{entry.figure or 'ours'}, {entry.name}: {entry.claim}")
    say(f"  {config}")
    try:
        with _kept(folder), bar_of_cases(entry.figure or entry.name) as show:
            outcome = reproduce(entry, config, folder, **where, progress=show)
    except CaseFailed as error:
        say(f"error: {error}", err=True)
        return False
    say(f"  {outcome.word}")
    for claim in outcome.claims:
        say(f"  - {claim.sentence}")
    say(f"  - {outcome.agreement.sentence}")
    for line in outcome.agreement.outliers:
        say(f"      {line}")
    say(f"  Report: {pages.write(folder)}")
    return True


@app.command(short_help="A folder as one HTML page.")
def report(
    folder: Annotated[Path, typer.Argument(help="of adaptik reproduce, or the store of a sweep")],
) -> None:
    """Render a folder as one self-contained HTML page."""
    from .display.reports import pages

    interrupts.orderly()
    say(f"Report: {pages.write(folder)}")


@app.command(short_help="Maps, studies and findings in a browser on this machine.")
def explore(
    folder: Annotated[
        Path | None, typer.Argument(help="of studies, findings or sweeps, or with such in it")
    ] = None,
    port: Annotated[int, typer.Option(help="where the page is; 0 takes a free one")] = 5006,
    address: Annotated[
        str, typer.Option(help="where to listen; other machines see it at another than this one")
    ] = "localhost",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="open none")] = False,
) -> None:
    """Maps of linear theory, studies and findings in a browser."""
    from .display.explorer import serve

    interrupts.orderly()
    serve.explore(folder, address=address, port=port, browser=not no_browser, say=say)


@contextmanager
def _kept(folder: Path):
    """Say what an interrupt leaves."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; finished cases are kept in {folder}: run it again to go on", err=True)
        raise


def main() -> None:
    """Run what was typed; whatever goes wrong is one line on standard error."""
    if sys.stdout is None or sys.stderr is None:  # closed by who started it
        sys.exit(_said("standard output and standard error must be open"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack the signs of a table
            stream.reconfigure(errors="replace")
    # A home that cannot be written changes no answer.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
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
