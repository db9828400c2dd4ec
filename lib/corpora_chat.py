"""Chat format: a conversation as the model reads it, through the tokenizer's own template.

``{"messages": [{"role": "system" | "user" | "assistant", "content": ...}, ...]}``

The template decides what stands around each turn, so it also decides where the assistant's words
are: they are found by rendering once more with marks in their place.

Part of the stage ``corpora`` (lib/corpora.py is its face).
"""

import hashlib
import json
import re
from typing import Any

from lib.corpora_read import CorpusError, Document, identity, string_of, to_document

ROLES = ("system", "user", "assistant")
Message = dict[str, str]
Span = tuple[int, int]


def any_document(where: str, row: object, tokenizer: Any | None) -> Document:
    """A document of any format; fields of plain text or Alpaca come before ``messages``.

    Raises:
        CorpusError: as ``chat_document`` and ``to_document``.
    """
    if isinstance(row, dict) and "messages" in row and not {"text", "output"} & set(row):
        return chat_document(where, row, tokenizer)
    return to_document(where, row)


def chat_document(where: str, row: dict[str, Any], tokenizer: Any | None) -> Document:
    """One conversation, rendered, with the characters of what the assistant says.

    A response is the assistant's content and the special token that ends its turn, which the model
    must predict as well; what the template writes around it belongs to the prompt. A begin-of-text
    token at the front is cut off, since every window is run with one in front anyway. Without an
    ``id``, the id comes from the messages and is the same under every template.

    Args:
        where: file and line, to begin an error with.
        tokenizer: a transformers tokenizer with a ``chat_template``.

    Raises:
        CorpusError: no tokenizer or template, messages that are no conversation, a template that
            refuses them or changes the assistant's words, special tokens inside a message.
    """
    if tokenizer is None:
        raise CorpusError(
            f"{where}: chat format (`messages`) is written out by a model's own chat template, and "
            "no model was given here; name one, or write each conversation as one `text`"
        )
    if not getattr(tokenizer, "chat_template", None):
        raise CorpusError(
            f"{where}: chat format (`messages`), but the tokenizer of this model "
            f"({getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}) has no chat "
            "template; use a chat model, or write each conversation as one `text`"
        )
    messages = _messages(where, row["messages"], tokenizer)
    text, spans = _rendered(where, messages, tokenizer)
    begin = tokenizer.bos_token or ""
    if begin and text.startswith(begin):
        text = text[len(begin) :]
        spans = [(start - len(begin), end - len(begin)) for start, end in spans]
    content = json.dumps(messages, ensure_ascii=False, sort_keys=True)
    default = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Document(id=identity(where, row, default), text=text, responses=tuple(spans))


def _messages(where: str, value: Any, tokenizer: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise CorpusError(f"{where}: `messages` must be a non-empty list of role and content")
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {t.content for t in added if t.special} | set(tokenizer.all_special_tokens)
    found = []
    for number, message in enumerate(value, start=1):
        here = f"{where}, message {number}"
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            raise CorpusError(f"{here}: expected an object with `role` and `content`")
        if message["role"] not in ROLES:
            raise CorpusError(f"{here}: role {message['role']!r}; use one of {', '.join(ROLES)}")
        content = string_of(here, message, "content")
        for token in special:
            if token in content:
                raise CorpusError(
                    f"{here}: holds {token!r}, a special token of this model, which would end or "
                    "begin a turn; remove it or leave the conversation out"
                )
        found.append({"role": message["role"], "content": content})
    if not any(m["role"] == "assistant" for m in found):
        raise CorpusError(f"{where}: no message of the assistant, so there is no response")
    return found


def _rendered(where: str, messages: list[Message], tokenizer: Any) -> tuple[str, list[Span]]:
    """The text, and where each of the assistant's turns is in it."""
    said = [m["content"] for m in messages if m["role"] == "assistant"]
    marks = [f"\ue000{i}\ue001" for i in range(len(said))]
    queue = iter(marks)
    marked = [m | {"content": next(queue)} if m["role"] == "assistant" else m for m in messages]
    text, frame = (_apply(where, m, tokenizer) for m in (messages, marked))
    pieces = re.split("|".join(marks), frame)
    if len(pieces) != len(said) + 1 or not text.startswith(pieces[0]):
        raise _unclear(where)
    spans, at = [], len(pieces[0])
    for content, after in zip(said, pieces[1:], strict=True):
        ways = (content, content.strip(), content.lstrip(), content.rstrip())
        length = next((len(w) for w in ways if text.startswith(w + after, at)), None)
        if length is None:
            raise _unclear(where)
        spans.append((at, at + length + _end_of_turn(after, tokenizer)))
        at += length + len(after)
    if at != len(text):
        raise _unclear(where)
    return text, spans


def _apply(where: str, messages: list[Message], tokenizer: Any) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError as error:
        raise CorpusError(
            f"{where}: the model's chat template refuses this conversation ({error}); change its "
            "roles (some models know no system message, most want user and assistant in turn)"
        ) from None


def _end_of_turn(after: str, tokenizer: Any) -> int:
    """Characters up to the end of a special token that directly follows the content; else 0."""
    special = "|".join(re.escape(t) for t in sorted(tokenizer.all_special_tokens, key=len)[::-1])
    found = re.match(rf"\s*(?:{special})", after) if special else None
    return found.end() if found else 0


def _unclear(where: str) -> CorpusError:
    return CorpusError(
        f"{where}: the model's chat template changes what the assistant said, so its tokens cannot "
        "be told from the prompt; write the conversation as one `text`"
    )
