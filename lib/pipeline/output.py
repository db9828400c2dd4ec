"""The output axis on held-out text: KL, agreement, perplexity, per text and per token."""

import math
from typing import Any

import numpy as np
import polars as pl
import torch

from lib.activations import windows
from lib.metrics.divergence import kl_per_token, streamed
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
        start = documents[i].response_start
        flags.append(None if start is None else ends[i][p - 1] >= start)
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
def numerical_floor(prepared: Prepared, loaded: LoadedModel, documents: int = 8) -> float:
    """Mean KL of the base with itself when the same windows run alone instead of in a batch, nats.

    Below about three times this value a KL says nothing (methods: numerical floor).
    """
    texts = [d for _, d in prepared.texts.heldout][:documents]
    cut, _ = windows(loaded.tokenizer, texts, prepared.experiment.recipe.text.window)
    longest = max(len(w.ids) for w in cut) + 1
    end = loaded.tokenizer.eos_token_id
    total, count = 0.0, 0
    with loaded.as_base():
        ids = torch.full((len(cut), longest), end, device=loaded.device)
        mask = torch.zeros_like(ids)
        for row, window in enumerate(cut):
            n = len(window.ids) + 1
            ids[row, :n] = torch.tensor([loaded.tokenizer.bos_token_id, *window.ids])
            mask[row, :n] = 1
        together = loaded.causal_lm(ids, attention_mask=mask).logits
        for row, window in enumerate(cut):
            n = len(window.ids) + 1
            alone = loaded.causal_lm(ids[row : row + 1, :n]).logits[0]
            total += float(kl_per_token(together[row, :n].double(), alone.double()).sum())
            count += n
    return max(0.0, total / count)
