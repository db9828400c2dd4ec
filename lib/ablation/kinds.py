"""What a worker can be asked for: a line per kind, resolved when one is first asked for.

The names stand here as text, so that the dashboard, which only needs the plain data, imports no
torch with them.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lib.ablation.limits import AblationError


@runtime_checkable
class Request(Protocol):
    """What every kind of request has, beside ``from_json`` of its class."""

    @property
    def experiment_id(self) -> str: ...

    @property
    def id(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...


class Kind(NamedTuple):
    """Where the parts of one kind are, as ``module:name``."""

    request: str
    result: str
    run: str
    """(request, session, *, progress, tell) -> result, which has ``to_json`` and ``from_json``."""


KINDS = {
    "ablation": Kind(
        "lib.ablation.request:AblationRequest",
        "lib.ablation.request:AblationResult",
        "lib.ablation:run",
    ),
    "generate": Kind(
        "lib.ablation.generate:GenerateRequest",
        "lib.ablation.generate:GenerateResult",
        "lib.ablation.generate:generate",
    ),
    "meaning": Kind(
        "lib.ablation.meaning:MeaningRequest",
        "lib.ablation.meaning:MeaningResult",
        "lib.ablation.meaning:compare",
    ),
    "lens": Kind(
        "lib.ablation.looking:LensRequest",
        "lib.ablation.looking:LensResult",
        "lib.ablation.looking:look",
    ),
}


def kind_of(request: Request) -> str:
    """Which kind a request is, by its class.

    Raises:
        AblationError: none of ``KINDS``.
    """
    name = f"{type(request).__module__}:{type(request).__qualname__}"
    for kind, parts in KINDS.items():
        if parts.request == name:
            return kind
    raise AblationError(f"no worker answers {name}; there are {', '.join(KINDS)}")


def request_from(kind: str, data: Mapping[str, Any]) -> Request:
    """A request from its JSON.

    Raises:
        AblationError: an unknown kind, or fields that this code does not know.
    """
    try:
        request: Request = resolve_name(_parts(kind).request).from_json(dict(data))
    except (KeyError, TypeError) as problem:
        raise AblationError(
            f"a {kind} request with fields that this code does not know ({problem!r}): ask for it "
            "anew from the page"
        ) from None
    return request


def result_from(kind: str, data: Mapping[str, Any]) -> Any:
    """A result from its JSON; KeyError, TypeError or ValueError where it is another's."""
    return resolve_name(_parts(kind).result).from_json(dict(data))


def runner(kind: str) -> Any:
    """The function that answers this kind; imports torch."""
    return resolve_name(_parts(kind).run)


def _parts(kind: str) -> Kind:
    if kind not in KINDS:
        raise AblationError(f"no worker answers {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind]
