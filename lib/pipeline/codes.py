"""Where every latent of a crosscoder fires: all active codes on all harvested text."""

from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from lib.metrics.latents import LatentScaling
from lib.pipeline.prepare import Prepared
from lib.sparse import Dictionary

BINS = 24


class Codes(NamedTuple):
    frame: pl.DataFrame
    """One row per token and active latent: latent, value, source (a number per document of either
    split), position (in the document), corpus and document_id, which are null for text sampled from
    the model: examples may not show it."""
    nu_eps: Float[np.ndarray, " latents"]
    nu_r: Float[np.ndarray, " latents"]
    tokens: int


@torch.no_grad()
def active_codes(
    prepared: Prepared, layer: int, crosscoder: Dictionary, *, heldout: bool = True
) -> Codes:
    """All active codes on train and held-out text, with latent scaling on the way.

    Args:
        heldout: False = training text alone, for choices that held-out text is to judge.
    """
    scaling = LatentScaling(crosscoder.decoder[:, 1])
    frames, tokens = [], 0
    sources = [(prepared.train, _train_names(prepared))]
    if heldout:
        sources.append((prepared.heldout, _heldout_names(prepared)))
    for split, (harvest, names) in enumerate(sources):
        index = harvest.index()
        row = 0
        for number in range(len(harvest.manifest.shards)):
            for x in harvest.shard(number, layer).split(2048):
                raw = x.float()
                z = crosscoder.encode(raw)
                scaling.update(raw, crosscoder.decode(z), z, crosscoder.decoder)
                token, latent = z.nonzero(as_tuple=True)
                where = index[row + token]
                frames.append(_code_frame(names, split, where, latent, z[token, latent]))
                row += len(x)
                tokens += len(x)
    nu_eps, nu_r = scaling.value()
    return Codes(pl.concat(frames), np.asarray(nu_eps), np.asarray(nu_r), tokens)


def _code_frame(
    names: pl.DataFrame, split: int, where: Tensor, latent: Tensor, value: Tensor
) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "document": where[:, 0].numpy().astype(np.int32),
            "position": where[:, 1].numpy().astype(np.int32),
            "latent": latent.numpy().astype(np.int32),
            "value": value.numpy().astype(np.float32),
        }
    )
    named = frame.join(names, on="document", how="left", maintain_order="left")
    return named.with_columns(source=pl.col("document") * 2 + split).drop("document")


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


def spread(codes: pl.DataFrame, window: int) -> pl.DataFrame:
    """Per latent that fires: in how many documents, and the shares of its firings in the document
    and at the position of the context window with most of them; each in (0, 1]."""

    def most(of: pl.Expr) -> pl.Expr:
        return of.unique_counts().max() / pl.len()

    # Windows of a document start every ``window - 1`` tokens: BOS takes one place of each.
    place = pl.col("position") % (window - 1)
    return codes.group_by("latent").agg(
        documents=pl.col("source").n_unique().cast(pl.Int32),
        top_document=most(pl.col("source")),
        top_position=most(place),
    )


def histograms(codes: pl.DataFrame) -> pl.DataFrame:
    """Per latent that fires: its non-zero activations in ``BINS`` equal bins from 0 to its maximum."""
    top = pl.col("value").max().over("latent")
    bins = (
        codes.with_columns(
            bin=(pl.col("value") / top * BINS).floor().clip(0, BINS - 1).cast(pl.Int32)
        )
        .group_by("latent", "bin")
        .agg(n=pl.len())
    )
    counted: dict[int, np.ndarray] = {}
    for latent, b, n in bins.select("latent", "bin", "n").iter_rows():
        counted.setdefault(latent, np.zeros(BINS, dtype=np.int64))[b] = n
    return pl.DataFrame(
        [{"latent": one, "histogram_counts": counted[one].tolist()} for one in sorted(counted)],
        schema={"latent": pl.Int32, "histogram_counts": pl.List(pl.Int32)},
    )
