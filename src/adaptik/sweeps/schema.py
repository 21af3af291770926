"""Configuration files checked against a schema; refusals name key, value and what is taken."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..system.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel


def model(name: str, fields: Mapping[str, tuple[Any, Any]]) -> "type[BaseModel]":
    """A schema of keys with their types and defaults (``...``: required); no other key is taken."""
    from pydantic import ConfigDict, create_model

    # Strict: "2" is no number and true is no integer; whole numbers are taken as real ones.
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    definitions: dict[str, Any] = dict(fields)
    return create_model(name, __config__=config, **definitions)


def of_arguments(function: Callable[..., Any], many: bool = False) -> dict[str, tuple[Any, Any]]:
    """Keys and types of a function's arguments, none of them required.

    ``many`` asks for a list of values of each.

    Examples
    --------
    >>> def area(width: float, height: float = 1.0): ...
    >>> of_arguments(area)
    {'width': (<class 'float'>, None), 'height': (<class 'float'>, None)}
    """
    kinds = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_KEYWORD):
            continue
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        kinds[name] = (list[kind] if many else kind, None)
    return kinds


def check(schema: "type[BaseModel]", given: Mapping[str, Any], what: str) -> None:
    """Refuse values that a schema does not take.

    Raises
    ------
    InputError
        For the first of them, with its key, the value, and what the key takes.

    Examples
    --------
    >>> check(model("Box", {"width": (float, ...)}), {"width": 3}, "config")
    >>> check(model("Box", {"width": (float, ...)}), {"width": "3"}, "config")
    Traceback (most recent call last):
    ...
    adaptik.InputError: config: width='3' cannot be used: input should be a valid number
    """
    from pydantic import ValidationError

    try:
        schema.model_validate(given)
    except ValidationError as refusal:
        raise InputError(_sentence(refusal.errors(include_url=False), schema, what)) from None


def _sentence(errors: list[Any], schema: "type[BaseModel]", what: str) -> str:
    first = errors[0]
    key, *place = first["loc"]
    takes = ", ".join(schema.model_fields)
    if first["type"] == "extra_forbidden":
        return f"{what}: {key!r} is unknown; it takes {takes}"
    if first["type"] == "missing":
        return f"{what}: {key!r} is missing; it takes {takes}"
    # Of a union every member complains: of one value, at one place.
    said = [e["msg"] for e in errors if e["loc"][:2] == first["loc"][:2]]
    numbers = "".join(f"[{part}]" for part in place if isinstance(part, int))
    said = [text.replace("valid dictionary", "table") for text in said]
    reason = " or ".join(text[:1].lower() + text[1:] for text in dict.fromkeys(said))
    return f"{what}: {key}{numbers}={first['input']!r:.80} cannot be used: {reason}"
