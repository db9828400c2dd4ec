"""Every latent of every crosscoder: class, artefact checks, tokens, examples."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from lib.metrics.latents import classify_latents, delta_norm, shares
from lib.models import LoadedModel
from lib.pipeline.codes import active_codes, histograms, spread
from lib.pipeline.dictionaries import KINDS, trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stability import seed_columns
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary

MIN_FIRINGS = 10
TOP_TOKENS = 10
EXAMPLES = 6
CONTEXT = 12
"""Tokens shown on each side of an example's strongest one."""


class Parts(NamedTuple):
    dictionaries: pl.DataFrame
    latents: pl.DataFrame
    examples: pl.DataFrame


def latent_parts(prepared: Prepared, sparse: Stage, loaded: LoadedModel) -> Parts:
    """Tables ``dictionary``, ``latent`` and ``example``."""
    dictionaries, latents, examples = [], [], []
    window = prepared.experiment.recipe.text.window
    for layer in prepared.train.manifest.layers:
        one_sided = [kind for kind, side in KINDS.items() if side is not None]
        dictionaries += [_dictionary_row(prepared, sparse, layer, kind) for kind in one_sided]
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        codes = active_codes(prepared, layer, crosscoder)
        frame = _statistics(crosscoder, codes.frame, codes.tokens).with_columns(
            layer=pl.lit(layer, pl.Int32),
            nu_eps=pl.Series(codes.nu_eps, dtype=pl.Float64).fill_nan(None),
            nu_r=pl.Series(codes.nu_r, dtype=pl.Float64).fill_nan(None),
        )
        frame = frame.join(spread(codes.frame, window), on="latent", how="left").sort("latent")
        seeds, summary = seed_columns(prepared, sparse, layer, crosscoder, frame)
        dictionaries.append(_dictionary_row(prepared, sparse, layer, "crosscoder") | summary)
        latents.append(frame.hstack(seeds).hstack(_promoted(crosscoder, loaded)))
        examples.append(_examples(codes.frame).with_columns(layer=pl.lit(layer, pl.Int32)))
    name = pl.lit(prepared.experiment.id)
    return Parts(
        pl.DataFrame(dictionaries, infer_schema_length=None).with_columns(experiment_id=name),
        pl.concat(latents).with_columns(experiment_id=name),
        pl.concat(examples).with_columns(experiment_id=name),
    )


def _dictionary_row(prepared: Prepared, sparse: Stage, layer: int, kind: str) -> dict[str, Any]:
    from lib.sparse.quality import quality

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


def _statistics(crosscoder: Dictionary, codes: pl.DataFrame, tokens: int) -> pl.DataFrame:
    """One row per latent of the dictionary, also the ones that never fire."""
    summed = codes.group_by("latent").agg(
        firings=pl.len(),
        squared=pl.col("value").cast(pl.Float64).pow(2).sum(),
        max_activation=pl.col("value").max().cast(pl.Float64),
    )
    everyone = pl.DataFrame({"latent": np.arange(crosscoder.latents, dtype=np.int32)})
    frame = (
        everyone.join(summed, on="latent", how="left")
        .sort("latent")
        .with_columns(
            pl.col("firings").fill_null(0).cast(pl.Int64), pl.col("squared").fill_null(0.0)
        )
    )
    norms = crosscoder.norms.double()
    base, tuned = norms[:, 0], norms[:, 1]
    cosine = torch.nn.functional.cosine_similarity(
        crosscoder.decoder[:, 0].double(), crosscoder.decoder[:, 1].double(), dim=1, eps=1e-12
    )
    squared = torch.from_numpy(frame["squared"].to_numpy().copy())
    share = shares(squared, crosscoder.decoder)
    relative = delta_norm(base, tuned)
    firings = torch.from_numpy(frame["firings"].to_numpy().copy())
    return (
        frame.with_columns(
            norm_base=pl.Series(base.numpy()),
            norm_tuned=pl.Series(tuned.numpy()),
            delta_norm=pl.Series(relative.double().numpy()).fill_nan(None),
            cosine=pl.Series(cosine.numpy()),
            frequency=pl.col("firings") / tokens,
            energy=pl.Series(share.energy.numpy()),
            difference_share=pl.Series(share.difference.numpy()),
            **{"class": pl.Series(list(classify_latents(relative, firings, MIN_FIRINGS)))},
        )
        .drop("squared")
        .join(histograms(codes), on="latent", how="left")
        .sort("latent")
    )


@torch.no_grad()
def _promoted(crosscoder: Dictionary, loaded: LoadedModel) -> pl.DataFrame:
    """Tokens that the tuned-side direction raises and lowers most on the direct path to the logits.

    Logit of a token per unit of activation: W_U (gain * d), the final norm's gain applied and its
    division by the stream's norm left out, so values compare within one latent only.
    """
    gain = loaded.causal_lm.model.norm.weight.detach().float().cpu()
    logits = (crosscoder.decoder[:, 1] * gain) @ loaded.unembedding.detach().float().cpu().T
    logits -= logits.mean(1, keepdim=True)
    columns: dict[str, list] = {}
    for name, sign in (("promoted", 1), ("suppressed", -1)):
        best = torch.topk(sign * logits, min(TOP_TOKENS, logits.shape[1]), dim=1)
        columns[name] = [
            [loaded.tokenizer.decode([token]) for token in row] for row in best.indices.tolist()
        ]
        columns[f"{name}_logit"] = (sign * best.values).tolist()
    lists = {"promoted_logit": pl.List(pl.Float32), "suppressed_logit": pl.List(pl.Float32)}
    return pl.DataFrame(columns, schema_overrides=lists)


def _examples(codes: pl.DataFrame) -> pl.DataFrame:
    """The strongest token of each of the latent's strongest documents, with its surroundings."""
    shown = codes.filter(pl.col("corpus").is_not_null())
    document = ["latent", "corpus", "document_id"]
    peaks = (
        shown.sort("value", "position", descending=[True, False])
        .unique(document, keep="first", maintain_order=True)
        .with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int32).over("latent"))
        .filter(pl.col("rank") < EXAMPLES)
        .select(*document, "rank", peak=pl.col("position"))
    )
    return (
        peaks.join(shown, on=document, how="inner")
        .filter((pl.col("position") - pl.col("peak")).abs() <= CONTEXT)
        .sort("latent", "rank", "position")
        .group_by("latent", "rank", "corpus", "document_id", "peak", maintain_order=True)
        .agg(positions=pl.col("position"), activations=pl.col("value").round_sig_figs(4))
        .with_columns(
            pl.col("corpus", "document_id").cast(pl.String),
            token_start=(pl.col("peak") - CONTEXT).clip(lower_bound=0),
            token_end=pl.col("peak") + CONTEXT + 1,
        )
        .drop("peak")
    )
