"""The output axis on held-out text: KL, agreement, perplexity, per text and per token."""

import math
from typing import Any

import numpy as np
import polars as pl
import torch

from lib.activations import windows
from lib.metrics.divergence import streamed
from lib.metrics.intervals import bootstrap_mean
from lib.models import LoadedModel
from lib.pipeline.prepare import Prepared

MEASURES = ("kl", "reverse_kl", "js", "agreement")


def output_parts(prepared: Prepared, loaded: LoadedModel) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables ``output_metric`` (one row per text and part) and ``token_kl``."""
    tokens = _token_frame(prepared, loaded)
    floor = numerical_floor(prepared, loaded)
    rows = []
    for text in ("corpus", "neutral"):
        of_text = tokens.filter(pl.col("text") == text)
        parts = {"all": of_text}
        if of_text["response"].null_count() == 0:
            parts["response"] = of_text.filter(pl.col("response"))
            parts["prompt"] = of_text.filter(~pl.col("response"))
        for part, frame in parts.items():
            if len(frame):
                rows.append({"text": text, "part": part, **_summary(frame), "kl_floor": floor})
    metric = pl.DataFrame(rows).with_columns(experiment_id=pl.lit(prepared.experiment.id))
    return metric, _token_rows(prepared, tokens)


def _token_frame(prepared: Prepared, loaded: LoadedModel) -> pl.DataFrame:
    """One row per scored prediction; ``position`` is the predicted token's place in its document."""
    harvest = prepared.heldout
    index = harvest.index()
    scored = index[:, 3] >= 0
    final = harvest.whole("final")[scored]
    weight = loaded.unembedding.detach().float().cpu()
    total = streamed(
        final[:, 1], final[:, 0], weight, weight, targets=index[scored, 3], softcap=loaded.softcap
    )
    heldout = prepared.texts.heldout
    document = index[scored, 0]
    position = index[scored, 1] + 1
    response = _response_flags(prepared, loaded, document, position)
    return pl.DataFrame(
        {
            "document": document.numpy(),
            "text": [heldout[i][0] for i in document.tolist()],
            "position": position.numpy(),
            "response": response,
            "kl": total.kl.double().numpy(),
            "reverse_kl": total.reverse_kl.double().numpy(),
            "js": total.js.double().numpy(),
            "agreement": total.agreement.double().numpy(),
            "nll_tuned": total.nll_p.double().numpy(),
            "nll_base": total.nll_q.double().numpy(),
        },
        schema_overrides={"response": pl.Boolean},
    )


def _response_flags(
    prepared: Prepared, loaded: LoadedModel, document: torch.Tensor, position: torch.Tensor
) -> list[bool | None]:
    """Whether the predicted token belongs to the response; None where a text has no prompt."""
    documents = [d for _, d in prepared.texts.heldout]
    _, ends = windows(loaded.tokenizer, documents, prepared.experiment.recipe.text.window)
    flags: list[bool | None] = []
    for i, p in zip(document.tolist(), position.tolist(), strict=True):
        flags.append(documents[i].in_response(ends[i][p - 1]))
    return flags


def _summary(frame: pl.DataFrame) -> dict[str, Any]:
    """Token-weighted means with bootstrap intervals over documents."""
    columns = [*MEASURES, "nll_base", "nll_tuned"]
    sums = frame.group_by("document", maintain_order=True).agg(pl.col(columns).sum(), n=pl.len())
    row: dict[str, Any] = {"n_documents": len(sums), "n_tokens": len(frame)}
    counts = sums["n"].to_numpy()
    for name in columns:
        mean = bootstrap_mean(sums[name].to_numpy(), counts)
        value, low, high = mean.value, mean.low, mean.high
        out = name
        if name.startswith("nll"):
            out = name.replace("nll", "perplexity")
            value, low, high = (None if v is None else math.exp(v) for v in (value, low, high))
        row |= {out: value, f"{out}_low": low, f"{out}_high": high}
    return row


def _token_rows(prepared: Prepared, tokens: pl.DataFrame) -> pl.DataFrame:
    """Per document lists over its tokens, null where a token was not scored."""
    heldout = prepared.texts.heldout
    names = {
        "corpus": prepared.experiment.corpus_name,
        "neutral": prepared.experiment.recipe.text.neutral_name,
    }
    rows = []
    for (number,), frame in tokens.group_by(["document"], maintain_order=True):
        text, document = heldout[number]
        length = frame["position"].max() + 1
        row = {"corpus": names[text], "document_id": document.id}
        for name in ("kl", "nll_base", "nll_tuned"):
            values: list[float | None] = [None] * length
            for place, value in zip(frame["position"], frame[name], strict=True):
                values[place] = float(np.float32(value))
            row[name] = values
        rows.append(row)
    lists = dict.fromkeys(("kl", "nll_base", "nll_tuned"), pl.List(pl.Float32))
    frame = pl.DataFrame(rows, schema_overrides=lists)
    return frame.with_columns(experiment_id=pl.lit(prepared.experiment.id))


@torch.no_grad()
def numerical_floor(prepared: Prepared, loaded: LoadedModel, count: int = 8) -> float | None:
    """Mean KL of the base with itself, run alone instead of in a padded batch, in nats per token.

    The same weights and text through other kernels and shapes: what is left is rounding. Measured as
    the reported numbers are: hidden states after the last norm, ``streamed``, without the first
    positions. KL below about three times this value says nothing. The pair that is reported runs in
    one batch, where equal weights give exactly 0, so this is an upper estimate.
    """
    text = prepared.experiment.recipe.text
    cut, _ = windows(loaded.tokenizer, [d for _, d in prepared.texts.heldout], text.window)
    cut = cut[:count]
    longest = max(len(w.ids) for w in cut) + 1
    ids = torch.full((len(cut), longest), loaded.tokenizer.eos_token_id, device=loaded.device)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(cut):
        n = len(window.ids) + 1
        ids[row, :n] = torch.tensor([loaded.tokenizer.bos_token_id, *window.ids])
        mask[row, :n] = 1
    sides: list[list[torch.Tensor]] = [[], []]
    with loaded.as_base():
        together = loaded.causal_lm.model(ids, attention_mask=mask).last_hidden_state
        for row, window in enumerate(cut):
            scored = slice(text.drop_first, len(window.ids) + 1)
            alone = loaded.causal_lm.model(ids[row : row + 1, : scored.stop]).last_hidden_state
            sides[0].append(together[row, scored])
            sides[1].append(alone[0, scored])
    batched, single = (torch.cat(side).float().cpu() for side in sides)
    if not len(batched):
        return None
    weight = loaded.unembedding.detach().float().cpu()
    return float(streamed(single, batched, weight, weight, softcap=loaded.softcap).kl.mean())
