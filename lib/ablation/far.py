"""Passes on NDIF: only numbers leave this machine, and only numbers are read from the answer.

An edit is a function that only this program has, so it stays here: the activations at each depth
come back, the edit is computed on them, and a further pass is sent what the model is to continue
with. A pass with edits at n depths is therefore n + 1 requests. nnsight (0.8.1) would unpickle what
the service answers, which may run anything on this machine; here it must be tensors.
"""

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.ablation import remote
from lib.ablation.limits import AblationError
from lib.ablation.passes import ONE_TRACE, Entry, How, Intervention, Pass

PATIENCE = 600.0
"""Seconds for one request, its time in NDIF's own queue included."""
PAUSE = 0.2
"""Seconds between two questions about a request; more with every one, up to ten times this."""


class Answer(NamedTuple):
    """What one request brought back, on the CPU."""

    seen: dict[int, Float[Tensor, "batch seq d"]]
    hidden: Float[Tensor, "batch seq d"]


class Far:
    """One hub model on NDIF, without and with one hub adapter."""

    def __init__(self, key: str, base: Any, tuned: Any) -> None:
        """``key``: ``remote.model_key``; ``base``, ``tuned``: nnsight models without weights."""
        self._key, self._base, self._tuned = key, base, tuned

    def run(
        self,
        ids: Int[Tensor, "batch seq"],
        how: How,
        edits: Mapping[int, Intervention] | None = None,
    ) -> Pass:
        """As ``passes.run_pass``. Always from the first block: NDIF keeps nothing between requests.

        Raises:
            AblationError: what NDIF does not serve, or no usable answer.
        """
        if how.cache is not None or how.scale != 1:
            raise AblationError(
                "NDIF continues no text and scales no adapter: run this on this machine"
            )
        layers = tuple(sorted(how.layers))
        given: dict[int, Tensor] = {}
        before: dict[int, Tensor] = {}
        for layer in layers if edits is not None else ():
            same = ids if given else ids[:1]  # until the first edit all rows are one text
            found = self._ask(same, how, (layer,), given).seen[layer]
            before[layer] = found.expand(len(ids), -1, -1).contiguous()
            given[layer] = edits[layer](before[layer])
        answer = self._ask(ids, how, () if given else layers, given)
        entry = Entry(layers[0] if layers else 0, None) if how.keep_entry else None
        if edits is None:
            return Pass(answer.seen, answer.seen, answer.hidden, entry)
        return Pass(before, given, answer.hidden, entry)

    def _ask(
        self,
        ids: Int[Tensor, "batch seq"],
        how: How,
        layers: tuple[int, ...],
        given: dict[int, Tensor],
    ) -> Answer:
        """One request. Its block names nothing of this program: it is sent as it stands here."""
        model = self._base if how.as_base else self._tuned
        backend = _backend(self._key, model)
        mlp, places = how.hook == "mlp", tuple(sorted({*layers, *given}))
        with ONE_TRACE, _told(), model.trace(ids, use_cache=False, backend=backend):
            seen = {}
            for layer in places:
                block = model.model.layers[layer]
                hook = block.mlp if mlp else block
                arriving = hook.output
                if layer in layers:
                    seen[layer] = arriving.float().cpu()
                if layer in given:
                    hook.output = given[layer].to(arriving)
            seen = seen.save()
            hidden = model.model.output.last_hidden_state.cpu().save()  # noqa: F841 it names the answer
        return _answer(_wait(backend), (len(ids), ids.shape[1]), layers)


def _backend(key: str, model: Any) -> Any:
    """nnsight's way to NDIF: asked again and again, silent, and reading tensors only."""
    from nnsight.intervention.backends.remote import RemoteBackend

    class TensorsOnly(RemoteBackend):
        def finalize(self, content: bytes) -> Any:
            if self.compress:
                import zstandard

                content = zstandard.ZstdDecompressor().decompress(content)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    address, secret = remote.access()
    backend = TensorsOnly(
        key, host=address, api_key=secret, env=model._remoteable_get_env(), blocking=False
    )
    backend.display.enabled = False
    return backend


def _wait(backend: Any) -> Any:
    until, pause = time.monotonic() + PATIENCE, PAUSE
    while time.monotonic() < until:
        with _told():
            found = backend.poll()
        if found is not None:
            return found
        time.sleep(pause)
        pause = min(10 * PAUSE, 1.2 * pause)
    raise AblationError(
        f"NDIF has not answered in {PATIENCE:.0f} s ({backend.status}): try later, or run on this "
        "machine"
    )


@contextmanager
def _told() -> Iterator[None]:
    """Whatever the service or the way to it fails with, in words for the reader."""
    import httpx
    from nnsight.intervention.backends.remote import RemoteError
    from pydantic import ValidationError
    from zstandard import ZstdError

    try:
        yield
    except (RemoteError, httpx.HTTPError, UnpicklingError, ZstdError, ValidationError) as problem:
        told = " ".join(str(problem).split())[:300] or type(problem).__name__
        raise AblationError(f"NDIF: {told}; try later, or run on this machine") from None


def _answer(found: Any, shape: tuple[int, int], layers: tuple[int, ...]) -> Answer:
    """Refuses what is not an answer to this question."""
    seen, hidden = (found.get(name) if isinstance(found, dict) else None for name in Answer._fields)
    parts = [hidden, *(seen.values() if isinstance(seen, dict) else ())]
    whole = all(isinstance(x, Tensor) and x.ndim == 3 and x.shape[:2] == shape for x in parts)
    if not whole or not isinstance(seen, dict) or set(seen) != set(layers):
        raise AblationError("NDIF answered another question: try later, or run on this machine")
    return Answer({layer: x.float() for layer, x in seen.items()}, hidden.float())
