"""Adds the texts of one batch of runs up to one condition for each run."""

from jaxtyping import Float
from torch import Tensor

from lib.ablation.arithmetic import DictionarySlice, codes
from lib.ablation.documents import Reading
from lib.ablation.passes import Heard
from lib.ablation.request import Condition, DocumentScore, Edit, NextToken
from lib.ablation.scores import Judge

Activations = dict[int, Float[Tensor, "batch tokens d"]]


class Tally:
    """Sums over texts for each run of a batch."""

    def __init__(
        self, judge: Judge, names: tuple[str, ...], skip: int, *, prompt_mode: bool
    ) -> None:
        self._judge, self._names, self._skip = judge, names, skip
        self._prompt_mode = prompt_mode
        self._documents: list[list[DocumentScore]] = [[] for _ in names]
        self._per_token: list[tuple[float | None, ...]] = [() for _ in names]
        self._next: list[tuple[NextToken, ...]] = [() for _ in names]
        self._nll = [0.0 for _ in names]
        self._predicted = 0
        self._edits: dict[int, list[EditSums]] = {}

    def add(
        self,
        reading: Reading,
        hidden: Float[Tensor, "batch tokens d"],
        before: Activations,
        after: Activations,
        latents: dict[int, DictionarySlice],
        heard: Heard = lambda: None,
    ) -> None:
        """One text under every run; ``latents``: each run's set at each depth, if it has one.

        ``heard`` is called before each run's scores; raising there ends the count.
        """
        if reading.text.neutral:
            self._add_neutral(reading, hidden, heard)
            return
        scores = self._judge.scores(hidden, reading.base_hidden, heard)
        for run, (kl, agree) in enumerate(zip(scores.kl, scores.agree, strict=True)):
            score = DocumentScore(float(kl.sum()), len(kl), int(agree.sum()))
            self._documents[run].append(score)
            if self._prompt_mode:
                self._per_token[run] = (*[None] * self._skip, *kl.tolist())
                self._next[run] = self._judge.next_tokens(hidden[run, -1])
        for layer, x in before.items():
            sums = self._edits.setdefault(layer, [EditSums() for _ in self._names])
            fires = None
            if layer in latents:
                found = codes(x, reading.base[layer].expand_as(x), latents[layer].to(x.device))
                fires = (found > 0).any(-1)
            for run, one in enumerate(sums):
                lit = None if fires is None else float(fires[run].sum())
                one.add(x[run], after[layer][run], reading.base[layer], lit)

    def _add_neutral(
        self, reading: Reading, hidden: Float[Tensor, "batch tokens d"], heard: Heard
    ) -> None:
        following = reading.text.ids[0, self._skip + 1 :]
        self._predicted += len(following)
        for run, one in enumerate(hidden):
            heard()
            self._nll[run] += float(self._judge.nll(one[:-1], following).sum())

    @property
    def neutral_nll(self) -> list[float | None]:
        """Of each run, nats per token of the neutral texts; None without them."""
        return [total / self._predicted if self._predicted else None for total in self._nll]

    def conditions(self, kl_tuned: float | None) -> list[Condition]:
        """One for each run.

        Args:
            kl_tuned: KL(tuned || base) summed over all scored tokens; None = each run's own sum is
                the yardstick, as for tuned itself.
        """
        return [self._condition(run, kl_tuned) for run in range(len(self._names))]

    def _condition(self, run: int, kl_tuned: float | None) -> Condition:
        documents = tuple(self._documents[run])
        tokens = sum(score.tokens for score in documents)
        total = sum(score.kl_sum for score in documents)
        return Condition(
            name=self._names[run],
            kl=total / tokens,
            kl_per_token=self._per_token[run],
            documents=documents,
            share_reversed=share(total, total if kl_tuned is None else kl_tuned),
            agreement=sum(score.agree for score in documents) / tokens,
            neutral_nll=self.neutral_nll[run],
            next_tokens=self._next[run],
            edits=tuple(sums[run].edit(layer) for layer, sums in sorted(self._edits.items())),
        )


class EditSums:
    """Of one run at one depth, over scored tokens."""

    def __init__(self) -> None:
        self._tokens = 0
        self._norm = self._difference = self._square = self._left = self._lit = 0.0
        self._has_latents = False

    def add(
        self,
        before: Float[Tensor, "tokens d"],
        after: Float[Tensor, "tokens d"],
        base: Float[Tensor, "tokens d"],
        lit: float | None,
    ) -> None:
        """One text; ``lit`` = tokens on which a latent of the run fires, None without latents."""
        gap, left = (before - base).double(), (after - base).double()
        self._tokens += len(before)
        self._norm += float((after - before).double().norm(dim=-1).sum())
        self._difference += float(gap.norm(dim=-1).sum())
        self._square += float(gap.square().sum())
        self._left += float(left.square().sum())
        if lit is not None:
            self._has_latents, self._lit = True, self._lit + lit

    def edit(self, layer: int) -> Edit:
        return Edit(
            layer=layer,
            norm=self._norm / self._tokens,
            difference_norm=self._difference / self._tokens,
            removed=share(self._left, self._square),
            fires=self._lit / self._tokens if self._has_latents else None,
        )


def share(left: float, total: float) -> float | None:
    """1 - left / total, dimensionless: 1 = nothing left, 0 = all, negative = more than before.

    None where there was nothing to begin with.
    """
    return (total - left) / total if total else None
