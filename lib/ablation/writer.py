"""One lane of a generation: choosing tokens from predictions, and the text that they make."""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.ablation.generate import Lane, Step
from lib.ablation.limits import AblationError
from lib.ablation.outcome import Edit, NextToken
from lib.ablation.session import Session
from lib.metrics.divergence import kl_per_token

TOP_TOKENS = 10


class Writer:
    """One lane: its tokens so far, and the text that they make."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.stopped = False
        self.steps: list[Step] = []
        self._tokenizer = session.loaded.tokenizer
        self._ends = end_tokens(session)
        self._shown = ""

    def write(
        self,
        logits: Float[Tensor, " vocab"],
        base: Float[Tensor, " vocab"],
        temperature: float,
        luck: float,
        last: bool = False,
    ) -> None:
        """Take the next token from the lane's own prediction; the last one holds no byte back.

        Raises:
            AblationError: the prediction is not finite.
        """
        if not torch.isfinite(logits).all():
            raise AblationError(
                f"the {self.name} run gives no number after {len(self.steps)} new tokens: the edit "
                "drove the model out of its range; lower the strength, or run in fp32"
            )
        token = pick(logits, temperature, luck)
        own, of_base = (v.softmax(-1) for v in (logits, base))
        best = own.topk(min(TOP_TOKENS, len(own)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        kl = 0.0 if self.name == "base" else float(kl_per_token(logits[None], base[None])[0])
        self.stopped = token in self._ends
        self.steps.append(
            Step(
                id=token,
                token=self._piece(token, last or self.stopped),
                probability=float(own[token]),
                base_probability=float(of_base[token]),
                kl=kl,
                next_tokens=tuple(NextToken(self._tokenizer.decode([i]), p) for i, p in pairs),
            )
        )

    def _piece(self, token: int, last: bool) -> str:
        """What a token adds to the text: bytes of an unfinished character wait for its last one."""
        text = self._text([*(step.id for step in self.steps), token])
        unfinished = text.endswith("\ufffd") and not last
        if unfinished or not text.startswith(self._shown):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode([i for i in ids if i not in self._ends])

    def lane(self, edits: tuple[Edit, ...] = ()) -> Lane:
        """What was written; ``edits``: how large the lane's edits were, at each depth."""
        text = self._text([step.id for step in self.steps])
        return Lane(self.name, text, tuple(self.steps), "end" if self.stopped else "limit", edits)


def end_tokens(session: Session) -> set[int]:
    """Tokens that end a text: the tokenizer's and those of the model's generation settings."""
    settings = getattr(session.loaded.causal_lm, "generation_config", None)
    given = [session.loaded.tokenizer.eos_token_id, getattr(settings, "eos_token_id", None)]
    return {
        i for ids in given if ids is not None for i in (ids if isinstance(ids, list) else [ids])
    }


def pick(logits: Float[Tensor, " vocab"], temperature: float, luck: float) -> int:
    """The most probable token, or the one at quantile ``luck`` of the tempered distribution."""
    if temperature == 0:
        return int(logits.argmax())
    reached = (logits.double() / temperature).softmax(-1).cumsum(-1).cpu()
    at = torch.searchsorted(reached, luck * reached[-1:], right=True)
    return min(int(at), len(reached) - 1)
