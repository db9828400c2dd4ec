"""Every latent of every crosscoder: class, artefact checks, tokens, examples."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from lib.metrics.latents import LatentScaling, classify_latents, delta_norm, shares
from lib.models import LoadedModel
from lib.pipeline.dictionaries import KINDS, trained
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.sparse import Dictionary

MIN_FIRINGS = 10
TOP_TOKENS = 10
EXAMPLES = 6
CONTEXT = 12
"""Tokens shown on each side of an example's strongest one."""
BINS = 24


class Parts(NamedTuple):
    dictionaries: pl.DataFrame
    latents: pl.DataFrame
    examples: pl.DataFrame


def latent_parts(prepared: Prepared, sparse: Stage, loaded: LoadedModel) -> Parts:
    """Tables ``dictionary``, ``latent`` and ``example``."""
    dictionaries, latents, examples = [], [], []
    for layer in prepared.train.manifest.layers:
        dictionaries += [_dictionary_row(prepared, sparse, layer, kind) for kind in KINDS]
        crosscoder, _ = trained(sparse, layer, "crosscoder")
        codes, nu_eps, nu_r, tokens = _codes(prepared, layer, crosscoder)
        frame = _statistics(crosscoder, codes, tokens).with_columns(
            layer=pl.lit(layer, pl.Int32),
            nu_eps=pl.Series(nu_eps, dtype=pl.Float64).fill_nan(None),
            nu_r=pl.Series(nu_r, dtype=pl.Float64).fill_nan(None),
        )
        latents.append(frame.hstack(_promoted(crosscoder, loaded)))
        examples.append(_examples(codes).with_columns(layer=pl.lit(layer, pl.Int32)))
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


@torch.no_grad()
def _codes(
    prepared: Prepared, layer: int, crosscoder: Dictionary
) -> tuple[pl.DataFrame, Float[np.ndarray, " latents"], Float[np.ndarray, " latents"], int]:
    """All active codes on train and held-out text, with latent scaling on the way.

    Corpus and document are null for text sampled from the model, which examples may not show.
    """
    scaling = LatentScaling(crosscoder.decoder[:, 1])
    frames, tokens = [], 0
    sources = (
        (prepared.train, _train_names(prepared)),
        (prepared.heldout, _heldout_names(prepared)),
    )
    for harvest, names in sources:
        index = harvest.index()
        row = 0
        for number in range(len(harvest.manifest.shards)):
            for x in harvest.shard(number, layer).split(2048):
                raw = x.float()
                z = crosscoder.encode(raw)
                scaling.update(raw, crosscoder.decode(z), z, crosscoder.decoder)
                token, latent = z.nonzero(as_tuple=True)
                where = index[row + token]
                frames.append(_code_frame(names, where, latent, z[token, latent]))
                row += len(x)
                tokens += len(x)
    nu_eps, nu_r = scaling.value()
    return pl.concat(frames), np.asarray(nu_eps), np.asarray(nu_r), tokens


def _code_frame(names: pl.DataFrame, where: Tensor, latent: Tensor, value: Tensor) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "document": where[:, 0].numpy().astype(np.int32),
            "position": where[:, 1].numpy().astype(np.int32),
            "latent": latent.numpy().astype(np.int32),
            "value": value.numpy().astype(np.float32),
        }
    )
    return frame.join(names, on="document", how="left", maintain_order="left").drop("document")


def _names(documents: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "document": np.arange(len(documents), dtype=np.int32),
            "corpus": pl.Series([c for c, _ in documents], dtype=pl.Categorical),
            "document_id": pl.Series([i for _, i in documents], dtype=pl.Categorical),
        }
    )


def _train_names(prepared: Prepared) -> pl.DataFrame:
    own, neutral = prepared.experiment.corpus_name, prepared.experiment.recipe.text.neutral_name
    text = prepared.texts
    return _names(
        [(own, d.id) for d in text.corpus_train] + [(neutral, d.id) for d in text.neutral_train]
    )


def _heldout_names(prepared: Prepared) -> pl.DataFrame:
    own, neutral = prepared.experiment.corpus_name, prepared.experiment.recipe.text.neutral_name
    return _names([(own if t == "corpus" else neutral, d.id) for t, d in prepared.texts.heldout])


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
        .join(_histograms(codes), on="latent", how="left")
        .sort("latent")
    )


def _histograms(codes: pl.DataFrame) -> pl.DataFrame:
    """Equal bins from 0 to the latent's maximum, over its non-zero activations."""
    top = pl.col("value").max().over("latent")
    bins = (
        codes.with_columns(
            bin=(pl.col("value") / top * BINS).floor().clip(0, BINS - 1).cast(pl.Int32)
        )
        .group_by("latent", "bin")
        .agg(n=pl.len())
    )
    full = codes.group_by("latent").agg(top=pl.col("value").max())
    counted: dict[int, np.ndarray] = {}
    for latent, b, n in bins.select("latent", "bin", "n").iter_rows():
        counted.setdefault(latent, np.zeros(BINS, dtype=np.int64))[b] = n
    return pl.DataFrame(
        [
            {
                "latent": latent,
                "histogram_edges": [round(float(e), 5) for e in np.linspace(0, high, BINS + 1)],
                "histogram_counts": counted[latent].tolist(),
            }
            for latent, high in full.sort("latent").iter_rows()
        ],
        schema={
            "latent": pl.Int32,
            "histogram_edges": pl.List(pl.Float32),
            "histogram_counts": pl.List(pl.Int64),
        },
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
