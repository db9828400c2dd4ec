"""One adapter's place in the plane: output change and displacement on a little held-out text."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.activations import Recorder, batches, windows
from lib.activations.windows import Window
from lib.metrics.cka import grouped_cka
from lib.metrics.displacement import displacement
from lib.metrics.divergence import streamed
from lib.metrics.intervals import bootstrap_mean, sums_by_group
from lib.metrics.massive import massive_tokens
from lib.models import LoadedModel
from lib.pipeline.prepare import Prepared


class Seen(NamedTuple):
    """One model over the text of the sweep."""

    layers: tuple[Float[Tensor, "tokens d"], ...]
    """Hooked activations of every block."""
    final: Float[Tensor, "tokens d"]
    """After the last norm."""


class Reference(NamedTuple):
    """The text that every point reads, and what the base makes of it."""

    groups: list[tuple[list[Window], Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]]
    hook: str
    drop_first: int
    documents: Int[Tensor, " tokens"]
    corpus: Int[Tensor, " documents"]
    """1 for documents of the corpus, 0 for neutral ones."""
    targets: Int[Tensor, " tokens"]
    """Next token; -1 at a document's end."""
    base: Seen

    @classmethod
    def of(cls, prepared: Prepared) -> "Reference":
        """First documents of the held-out corpus and neutral text, each cut to the sweep's length."""
        experiment = prepared.experiment
        recipe, loaded = experiment.recipe.sweep, prepared.loaded()
        held = [
            prepared.texts.corpus_heldout[: recipe.documents],
            prepared.texts.neutral_heldout[: recipe.documents],
        ]
        documents = [document for part in held for document in part]
        cut, _ = windows(loaded.tokenizer, documents, recipe.tokens + 1)
        first = [window for window in cut if window.start == 0]
        groups = list(batches(first, loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id))
        drop = experiment.recipe.text.drop_first
        owners, targets = [], []
        for group, ids, mask in groups:
            keep = _kept(mask, drop)
            following = torch.where(mask.roll(-1, 1).bool(), ids.roll(-1, 1), -1)
            following[:, -1] = -1
            row = keep.nonzero()[:, 0]
            owners.append(torch.tensor([window.document for window in group])[row])
            targets.append(following[keep])
        empty = Seen((), torch.zeros(0, loaded.d))
        reference = cls(
            groups,
            experiment.recipe.harvest.hook,
            drop,
            torch.cat(owners),
            torch.tensor([1] * len(held[0]) + [0] * len(held[1])),
            torch.cat(targets),
            empty,
        )
        with loaded.as_base():
            return reference._replace(base=reference.tuned(loaded))

    @torch.no_grad()
    def tuned(self, loaded: LoadedModel) -> Seen:
        """The same text through this model as it is."""
        layers: list[list[Tensor]] = [[] for _ in range(loaded.n_layers)]
        final = []
        with Recorder(loaded, list(range(loaded.n_layers)), self.hook) as recorder:
            for _, ids, mask in self.groups:
                keep = _kept(mask, self.drop_first)
                ids, mask = ids.to(loaded.device), mask.to(loaded.device)
                last = loaded.causal_lm.model(ids, attention_mask=mask).last_hidden_state
                final.append(last[keep].float().cpu())
                for layer, rows in enumerate(layers):
                    rows.append(recorder.seen[layer][keep].float().cpu())
        return Seen(tuple(torch.cat(rows) for rows in layers), torch.cat(final))


def _kept(mask: Int[Tensor, "batch seq"], drop_first: int) -> Tensor:
    keep = mask.bool()
    keep[:, :drop_first] = False
    return keep


def outer_rows(reference: Reference, seen: Seen, loaded: LoadedModel) -> list[dict[str, Any]]:
    """KL, agreement and loss on each text, nats per token, with intervals over documents."""
    scored = reference.targets >= 0
    weight = loaded.unembedding.detach().float().cpu()
    found = streamed(
        seen.final[scored], reference.base.final[scored], weight, weight,
        targets=reference.targets[scored], softcap=loaded.softcap,
    )  # fmt: skip
    documents = reference.documents[scored]
    columns = torch.stack(
        [found.kl, found.agreement, found.nll_p, found.nll_q, torch.ones_like(found.kl)], dim=1
    )
    rows = []
    for text, flag in (("corpus", 1), ("neutral", 0)):
        keep = reference.corpus[documents] == flag
        sums = sums_by_group(columns[keep].numpy(), documents[keep].numpy())
        kl = bootstrap_mean(sums[:, 0], sums[:, 4])
        agreement = bootstrap_mean(sums[:, 1], sums[:, 4])
        tokens = float(sums[:, 4].sum())
        rows.append(
            {
                "text": text,
                "documents": len(sums),
                "tokens": int(tokens),
                "kl": kl.value,
                "kl_low": kl.low,
                "kl_high": kl.high,
                "agreement": agreement.value,
                "agreement_low": agreement.low,
                "agreement_high": agreement.high,
                "nll": float(sums[:, 2].sum() / tokens),
                "nll_base": float(sums[:, 3].sum() / tokens),
            }
        )
    return rows


def layer_rows(reference: Reference, seen: Seen) -> list[dict[str, Any]]:
    """1 - debiased CKA and relative displacement at every block, without massive tokens: on all of the
    text, and on neutral text alone, where what is left of a fine-tune is a trace that can be read."""
    neutral = reference.corpus[reference.documents] == 0
    rows = []
    for layer, (base, tuned) in enumerate(zip(reference.base.layers, seen.layers, strict=True)):
        keep = massive_tokens(base, tuned).keep
        for text, part in (("both", keep), ("neutral", keep & neutral)):
            views = (base[part], tuned[part], reference.documents[part])
            rows.append({"text": text, "layer": layer} | _moved(*views))
    return rows


def _moved(
    base: Float[Tensor, "tokens d"],
    tuned: Float[Tensor, "tokens d"],
    owners: Int[Tensor, " tokens"],
) -> dict[str, Any]:
    cka, moved = grouped_cka(base, tuned, owners), displacement(base, tuned, owners)
    return {
        "tokens": len(base),
        "displacement": 1 - cka.value,
        "displacement_low": None if cka.high is None else 1 - cka.high,
        "displacement_high": None if cka.low is None else 1 - cka.low,
        "relative": moved.relative,
        "relative_low": moved.low,
        "relative_high": moved.high,
        "offset_share": moved.offset_share,
    }
