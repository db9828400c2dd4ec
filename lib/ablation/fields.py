"""Do requests and bundles hold what their fields declare, and the hash of that. No torch."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from lib.ablation.limits import AblationError

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}
_PARTS = {"documents": "document", "neutral": "neutral text"}
_BITS = 63
"""Of a whole number: what every library on the way can hold."""
_SHOWN = 60
"""Characters of a value that a message quotes."""


def check_fields(record: object) -> None:
    """Refuse a dataclass with a field that holds another type than it is annotated with.

    A whole number may stand for a number and a list for a tuple; True and False are no numbers.
    Texts may not hold half of a surrogate pair, which no tokenizer reads.

    Raises:
        AblationError: names the field, what it holds and what it may hold.
    """
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    check_values(type(record), {name: getattr(record, name) for name in names})


def check_values(kind: type, values: Mapping[str, object]) -> None:
    """As ``check_fields``, of values that are not yet in a dataclass of this kind.

    Raises:
        AblationError: as there.
    """
    kinds = typing.get_type_hints(kind)
    for name, value in values.items():
        _check(name, value, kinds[name])


def _check(name: str, value: object, kind: Any) -> None:
    if isinstance(kind, types.UnionType):
        (kind,) = [one for one in typing.get_args(kind) if one is not types.NoneType]
        if value is None:
            return
    if typing.get_origin(kind) is tuple:
        _check_parts(name, value, typing.get_args(kind))
    elif kind is str:
        _check_text(name, value)
    elif kind is int:
        _check_whole(name, value)
    elif kind is float:
        _check_number(name, value)
    else:
        _refuse_unless(isinstance(value, kind), name, value, kind)


def _check_parts(name: str, value: object, kinds: tuple[Any, ...]) -> None:
    if not isinstance(value, tuple | list):
        raise AblationError(
            f"{name} holds {_shown(value)}: give a list, as in ({_example(kinds)},)"
        )
    if kinds[-1] is Ellipsis:
        for number, part in enumerate(value, 1):
            _check(f"{_PARTS.get(name, f'{name}, part')} {number} of {len(value)}", part, kinds[0])
        return
    if len(value) != len(kinds):
        raise AblationError(
            f"{name} is {_shown(value)}: give {len(kinds)} of them, as (layer, latent)"
        )
    for number, (part, kind) in enumerate(zip(value, kinds, strict=True), 1):
        _check(f"{name}, number {number} of {len(value)}", part, kind)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise AblationError(f"{name} holds {_shown(value)}: give a text")
    half = half_pair(value)
    if half is not None:
        raise AblationError(
            f"{name} holds half of a surrogate pair (U+{ord(value[half]):04X}, character "
            f"{half + 1}); write the character"
        )


def half_pair(text: str) -> int | None:
    """Where the first half of a surrogate pair stands, from 0; None = the text can be encoded."""
    return next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)


def _check_whole(name: str, value: object) -> None:
    _refuse_unless(isinstance(value, int) and not isinstance(value, bool), name, value, int)
    if typing.cast(int, value).bit_length() > _BITS:
        raise AblationError(f"{name} holds a number of more than {_BITS} bits: give a smaller one")


def _check_number(name: str, value: object) -> None:
    _refuse_unless(
        isinstance(value, int | float) and not isinstance(value, bool), name, value, float
    )
    try:
        float(typing.cast(float, value))
    except OverflowError:
        raise AblationError(f"{name} holds a number past any float: give a smaller one") from None


def _refuse_unless(holds: bool, name: str, value: object, kind: type) -> None:
    if not holds:
        raise AblationError(f"{name} holds {_shown(value)}: give {_WORDS.get(kind, kind.__name__)}")


def _example(kinds: tuple[Any, ...]) -> str:
    first = kinds[0]
    return {str: "'text'", int: "7", float: "0.5"}.get(first, "(7, 12)")


def _shown(value: object) -> str:
    said = ascii(value)
    short = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
    return f"{short} ({type(value).__name__})"


def content_hash(asked: dict[str, Any]) -> str:
    """The id of a request in its JSON form: equal requests have equal results."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
