"""What a transfer study is asked: every option once, with its type, help and allowed values.

From here come the parameters of ``adaptik transfer``, those of :func:`.transfer_point`, and what
files of sweeps may hold. Imports nothing slow, so that a help page comes at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ..system.errors import InputError


@dataclass(frozen=True)
class Option:
    """What an annotation says of an option beside its type.

    Attributes
    ----------
    help
        In a line.
    least
        The smallest value that makes sense.
    group
        The heading under which a help page has it.
    """

    help: str
    least: int | None = None
    group: str = "Theory"


DATA, QUESTION, NETWORKS = "Data", "Question", "Networks beside the theory"


Source = Annotated[
    str, Option("data set with classes, or a file: .npz, .csv, ...; repeatable", group=DATA)
]
Target = Annotated[str, Option("as --source", group=DATA)]
SourceSamples = Annotated[
    int | None, Option("source training samples [default: 200, or all]", group=DATA)
]
TargetSamples = Annotated[
    int | None, Option("target training samples [default: 40, or all]", group=DATA)
]
TestSamples = Annotated[int | None, Option("test samples [default: all, at most 1000]", group=DATA)]
Kind = Annotated[
    Literal["classes", "numbers"] | None,
    Option("labels of files: classes or numbers [default: by their values, said]", group=DATA),
]
Richness = Annotated[tuple[float, ...], Option("source richness values", group=QUESTION)]
TargetRichness = Annotated[
    tuple[float, ...], Option("target richness values; 0 is lazy", group=QUESTION)
]
Head = Annotated[
    Literal["fresh", "kept"], Option("fresh or kept readout on the target", group=QUESTION)
]
Activation = Annotated[str, Option("linear, relu, erf, tanh, gelu, softplus, hermite(k)...")]
Particles = Annotated[int | None, Option("particles, or neurons a layer, per replicate")]
CheckWidth = Annotated[int, Option("width of the networks", least=1, group=NETWORKS)]
Replicates = Annotated[int, Option("independent particle systems", least=1)]


@dataclass(frozen=True)
class TransferConfig:
    """Everything that determines a study; stored with it.

    Raises
    ------
    InputError
        For values that no study can have, whatever its data.

    Examples
    --------
    >>> TransferConfig(splits=3).folds
    4
    >>> TransferConfig(splits=0)
    Traceback (most recent call last):
    ...
    adaptik.InputError: splits must be at least 1, got 0
    """

    source: Source = "digits:1,4"
    target: Target = "digits:1,7"
    n_source: SourceSamples = 200
    n_target: TargetSamples = 40
    n_test: TestSamples = None
    kind: Kind = None
    richness: Richness = (0.0, 0.5, 1.0, 2.0, 4.0)
    target_richness: TargetRichness = (0.0, 1.0)
    head: Head = "fresh"
    stopping: Annotated[
        Literal["refits", "end"],
        Option("where target stages stop: by refits, or when samples are learned", group=QUESTION),
    ] = "refits"
    splits: Annotated[int, Option("independent draws of the data", 1, QUESTION)] = 1
    folds: Annotated[int, Option("K of the K-fold refits that choose", 2, QUESTION)] = 4
    activation: Activation = "relu"
    depth: Annotated[int, Option("hidden layers", least=1)] = 1
    particles: Particles = None
    replicates: Replicates = 4
    check_width: CheckWidth = 1024
    check_seeds: Annotated[int, Option("networks a split; 0 for none", 0, NETWORKS)] = 8
    seed: Annotated[int, Option("fixes data, particles and networks", least=0)] = 0

    def __post_init__(self):
        check(TransferConfig, vars(self))


def annotations(what: Any) -> dict[str, tuple[Any, Option]]:
    """Type and option of every annotated field of a class, or parameter of a function."""
    hints = get_type_hints(what, include_extras=True)
    marked = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
    return {
        name: (kind, note)
        for name, (kind, *notes) in marked.items()
        for note in notes
        if isinstance(note, Option)
    }


def allowed_words(kind: Any) -> list[str]:
    """Of a type; none where it does not list them.

    Examples
    --------
    >>> allowed_words(Literal["classes", "numbers"] | None), allowed_words(int)
    (['classes', 'numbers'], [])
    """
    parts = (kind, *get_args(kind))
    return [word for part in parts if get_origin(part) is Literal for word in get_args(part)]


def check(what: Any, values: Mapping[str, Any]) -> None:
    """Refuse values that the options of a class or function do not allow.

    Raises
    ------
    InputError
        For the first of them.
    """
    for name, (kind, option) in annotations(what).items():
        value, allowed = values[name], allowed_words(kind)
        if option.least is not None and value < option.least:
            raise InputError(f"{name} must be at least {option.least}, got {value}")
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise InputError(f"{name} must name different values, got {list(value)}")
        if value is not None and allowed and value not in allowed:
            words = " or ".join(map(repr, allowed))
            raise InputError(f"{name} must be {words}, got {value!r}")
