"""The strict JSON forms of the answers. What does not fit exactly is malformed, with the reason."""

import json
from typing import Any, NamedTuple

QUERY_LIMIT = 2000
"""Characters of one question to the models."""
TEXT_LIMIT = 1000
"""Characters of a stated domain and of each piece of evidence."""
_VERDICT = {"domain", "evidence", "confidence", "abstain"}


class Malformed(ValueError):
    """Not the form that was asked for; the message tells the model what is wrong."""


class Query(NamedTuple):
    """A question to base and tuned model."""

    prompt: str


class Verdict(NamedTuple):
    """What the agent states about the fine-tuning text."""

    domain: str
    evidence: tuple[str, ...]
    confidence: float
    """As stated, 0..1."""
    abstain: bool


def one_object(text: str) -> dict[str, Any]:
    """The one JSON object of an answer, alone or as the only thing in a code fence.

    Raises:
        Malformed: anything else, repeated keys and numbers that are none included.
    """
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and bare.count("```") == 2:
        bare = bare[3:-3].removeprefix("json").strip()
    try:
        found = json.loads(bare, object_pairs_hook=_no_repeats, parse_constant=_no_number)
    except json.JSONDecodeError as problem:
        raise Malformed(f"the answer is not one JSON object ({problem.msg})") from None
    except RecursionError:
        raise Malformed("the answer is nested too deeply") from None
    except Malformed:
        raise
    except ValueError:  # Python reads no integer of more than some thousand digits
        raise Malformed("the answer holds a number of too many digits") from None
    if not isinstance(found, dict):
        raise Malformed("the answer is JSON, but not an object")
    return found


def agent_turn(text: str, queries_left: int) -> Query | Verdict:
    """What the agent wants.

    Raises:
        Malformed: neither form; or a query when none is left.
    """
    found = one_object(text)
    if set(found) == {"query"}:
        if not queries_left:
            raise Malformed("no queries are left: state the domain now")
        return Query(_text(found, "query", QUERY_LIMIT))
    return verdict(found)


def verdict(found: dict[str, Any]) -> Verdict:
    """The agent's last word.

    Raises:
        Malformed: keys missing or unknown, wrong types, out of range, no domain and no abstention.
    """
    if set(found) != _VERDICT:
        raise Malformed(
            f"the keys are {sorted(found)}; they must be domain, evidence, confidence and abstain"
        )
    evidence, confidence, abstain = found["evidence"], found["confidence"], found["abstain"]
    if not isinstance(evidence, list) or not all(isinstance(e, str) for e in evidence):
        raise Malformed("evidence must be a list of strings")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise Malformed("confidence must be a number from 0 to 1")
    if not 0 <= confidence <= 1:
        raise Malformed(f"confidence is {confidence}; it must be from 0 to 1")
    if not isinstance(abstain, bool):
        raise Malformed("abstain must be true or false")
    domain = _text(found, "domain", TEXT_LIMIT, empty=abstain)
    kept = tuple(_whole(e[:TEXT_LIMIT]) for e in evidence)
    return Verdict(domain, kept, float(confidence), abstain)


def choice(text: str, allowed: tuple[str, ...]) -> tuple[str, str]:
    """A grade and its reason: ``{"grade": one of allowed, "reason": text}``.

    Raises:
        Malformed: another form or another grade.
    """
    found = one_object(text)
    if set(found) != {"grade", "reason"}:
        raise Malformed(f"the keys are {sorted(found)}; they must be grade and reason")
    if found["grade"] not in allowed:
        raise Malformed(f"grade must be one of {', '.join(allowed)}")
    return found["grade"], _text(found, "reason", TEXT_LIMIT, empty=True)


def matches(text: str, n: int, name: str = "matches") -> frozenset[int]:
    """Numbers of the texts that match: ``{"matches": [1, 4]}``, from 1 to n, under that name.

    Raises:
        Malformed: another form, a number twice or out of range.
    """
    found = one_object(text)
    numbers = found.get(name)
    if set(found) != {name} or not isinstance(numbers, list):
        raise Malformed(f'the answer must be {{"{name}": [numbers]}}')
    if not all(type(i) is int and 1 <= i <= n for i in numbers) or len(set(numbers)) < len(numbers):
        raise Malformed(f"{name} must hold different numbers from 1 to {n}")
    return frozenset(numbers)


def one_of(text: str, name: str, n: int) -> int:
    """A number: ``{name: 3}``, from 0 (none of them) to n.

    Raises:
        Malformed: another form, no whole number or out of range.
    """
    found = one_object(text)
    if set(found) != {name} or type(found[name]) is not int or not 0 <= found[name] <= n:
        raise Malformed(f'the answer must be {{"{name}": number}}, a whole number from 0 to {n}')
    return found[name]


def label(text: str) -> str:
    """A short label: ``{"label": text}``, at most 100 characters on one line.

    Raises:
        Malformed: another form, empty or longer.
    """
    found = one_object(text)
    if set(found) != {"label"}:
        raise Malformed(f"the keys are {sorted(found)}; there must be one, label")
    return " ".join(_text(found, "label", 100).split())


def _text(found: dict[str, Any], name: str, most: int, *, empty: bool = False) -> str:
    value = found[name]
    if not isinstance(value, str) or not (empty or value.strip()):
        raise Malformed(f"{name} must be a text that is not empty")
    if len(value) > most:
        raise Malformed(f"{name} has {len(value)} characters; at most {most} are allowed")
    return _whole(value)


def _whole(text: str) -> str:
    """JSON can spell half a surrogate pair, which no tokenizer and no file takes."""
    return text.encode("utf-8", "replace").decode()


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Malformed("a key stands in the object twice")
    return found


def _no_number(name: str) -> float:
    raise Malformed(f"{name} is no JSON number")
