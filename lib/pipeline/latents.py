"""Every latent of every crosscoder: class, artefact checks, tokens, examples."""

from typing import Any, NamedTuple

import polars as pl
import torch

from lib.models import LoadedModel
from lib.pipeline.codes import active_codes, histograms, spread
from lib.pipeline.counts import classified, novel_counts
from lib.pipeline.dictionaries import trained
from lib.pipeline.jobs import KINDS
from lib.pipeline.prepare import Prepared
from lib.pipeline.stability import seed_columns
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary
from lib.sparse.quality import quality

TOP_TOKENS = 8
EXAMPLES = {"full": 6, "tables": 3}
"""Per latent, by what the experiment keeps (``config.Keep``)."""
CONTEXT = 12
"""Tokens shown on each side of an example's strongest one."""


class Parts(NamedTuple):
    dictionaries: pl.DataFrame
    latents: pl.DataFrame
    examples: pl.DataFrame
    counts: pl.DataFrame
    """Table ``latent_count``."""


def latent_parts(prepared: Prepared, sparse: Stage, loaded: LoadedModel) -> Parts:
    """Tables ``dictionary``, ``latent``, ``example`` and ``latent_count``."""
    dictionaries, latents, examples, counts = [], [], [], []
    window = prepared.experiment.recipe.text.window
    shown = EXAMPLES.get(prepared.experiment.keep, 0)
    for layer in prepared.train.manifest.layers:
        one_sided = [kind for kind, side in KINDS.items() if side is not None]
        dictionaries += [_dictionary_row(prepared, sparse, layer, kind) for kind in one_sided]
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        codes = active_codes(prepared, layer, crosscoder)
        frame = classified(crosscoder, codes).with_columns(layer=pl.lit(layer, pl.Int32))
        frame = frame.join(histograms(codes.frame), on="latent", how="left").sort("latent")
        frame = frame.join(spread(codes.frame, window), on="latent", how="left").sort("latent")
        seeds, summary = seed_columns(prepared, sparse, layer, crosscoder, frame)
        dictionaries.append(_dictionary_row(prepared, sparse, layer, "crosscoder") | summary)
        counts.append(
            {"layer": layer, **novel_counts(frame)}
            | {"fve_difference": dictionaries[-1]["fve_difference"]}
        )
        latents.append(frame.hstack(seeds).hstack(_promoted(crosscoder, loaded)))
        examples.append(_examples(codes.frame, shown).with_columns(layer=pl.lit(layer, pl.Int32)))
    name = pl.lit(prepared.experiment.id)
    return Parts(
        pl.DataFrame(dictionaries, infer_schema_length=None).with_columns(experiment_id=name),
        pl.concat(latents).with_columns(experiment_id=name),
        pl.concat(examples).with_columns(experiment_id=name),
        pl.DataFrame(counts).with_columns(
            experiment_id=name, control=pl.lit("none"), draw=pl.lit(0)
        ),
    )


def _dictionary_row(prepared: Prepared, sparse: Stage, layer: int, kind: str) -> dict[str, Any]:
    dictionary, log = trained(sparse, layer, kind)
    side = KINDS[kind]
    x = prepared.heldout.whole(layer)
    measured = quality(dictionary, x if side is None else x[:, side : side + 1])
    last = log["points"][-1] if log["points"] else {"dead_share": None}
    return {
        "layer": layer,
        "kind": kind,
        "latents": dictionary.latents,
        "latents_asked": sparse.manifest()["asked"],
        "k": dictionary.k,
        "train_tokens": prepared.train.manifest.tokens,
        "heldout_tokens": len(x),
        "steps": log["steps"],
        "stopped": log["stopped"],
        "fve_base": measured.fve[0] if side in (None, 0) else None,
        "fve_tuned": measured.fve[-1] if side in (None, 1) else None,
        "fve_difference": measured.fve_difference,
        "l0": measured.l0,
        "dead_share": last["dead_share"],
        "alive": int((measured.firing > 0).sum()),
        "seconds": log["seconds"],
    }


@torch.no_grad()
def _promoted(crosscoder: Dictionary, loaded: LoadedModel) -> pl.DataFrame:
    """Tokens that the tuned-side direction raises and lowers most on the direct path to the logits.

    Logit of a token per unit of activation: W_U (gain * d), the final norm's gain applied and its
    division by the stream's norm left out, so values compare within one latent only.
    """
    writes = crosscoder.decoder[:, 1] * loaded.final_gain.cpu()
    logits = writes @ loaded.unembedding.detach().float().cpu().T
    logits -= logits.mean(1, keepdim=True)
    columns: dict[str, list] = {}
    for name, sign in (("promoted", 1), ("suppressed", -1)):
        best = torch.topk(sign * logits, min(TOP_TOKENS, logits.shape[1]), dim=1)
        columns[name] = [
            [loaded.tokenizer.decode([token]) for token in row] for row in best.indices.tolist()
        ]
        columns[f"{name}_logit"] = (sign * best.values).double().round(decimals=2).tolist()
    lists = {"promoted_logit": pl.List(pl.Float32), "suppressed_logit": pl.List(pl.Float32)}
    return pl.DataFrame(columns, schema_overrides=lists)


def _examples(codes: pl.DataFrame, most: int) -> pl.DataFrame:
    """The strongest token of each of the latent's strongest documents, with its surroundings."""
    shown = codes.filter(pl.col("corpus").is_not_null())
    document = ["latent", "corpus", "document_id"]
    peaks = (
        shown.sort("value", "position", descending=[True, False])
        .unique(document, keep="first", maintain_order=True)
        .with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int32).over("latent"))
        .filter(pl.col("rank") < most)
        .select(*document, "rank", peak=pl.col("position"))
    )
    return (
        peaks.join(shown, on=document, how="inner")
        .filter((pl.col("position") - pl.col("peak")).abs() <= CONTEXT)
        .sort("latent", "rank", "position")
        .group_by("latent", "rank", "corpus", "document_id", "peak", maintain_order=True)
        .agg(positions=pl.col("position"), activations=pl.col("value").round_sig_figs(3))
        .with_columns(
            pl.col("corpus", "document_id").cast(pl.String),
            token_start=(pl.col("peak") - CONTEXT).clip(lower_bound=0),
            token_end=pl.col("peak") + CONTEXT + 1,
        )
        .drop("peak")
    )
