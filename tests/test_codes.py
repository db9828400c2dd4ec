"""What the pipeline says of where latents fire, and of other seeds: frames worked by hand."""

import polars as pl
import torch

from lib.pipeline.codes import histograms, spread
from lib.pipeline.stability import SCHEMA, summary


def _codes(rows: list[tuple[int, int, int, float]]) -> pl.DataFrame:
    names = {"latent": pl.Int32, "source": pl.Int32, "position": pl.Int32, "value": pl.Float32}
    return pl.DataFrame(rows, schema=names, orient="row")


def test_spread_by_hand():
    """Windows of 5 tokens hold 4 of the document: positions 1, 5 and 9 are the same place."""
    codes = _codes([(0, 2, 1, 1.0), (0, 2, 5, 1.0), (0, 2, 6, 1.0), (0, 7, 9, 1.0), (3, 4, 0, 2.0)])
    assert spread(codes, window=5).sort("latent").rows() == [(0, 2, 0.75, 0.75), (3, 1, 1.0, 1.0)]


def test_a_histogram_counts_every_firing_once():
    codes = _codes([(1, 0, i, v) for i, v in enumerate((0.5, 12.0, 11.9, 24.0))])
    (row,) = histograms(codes).iter_rows(named=True)
    assert row["latent"] == 1
    counts = row["histogram_counts"]
    assert (counts[0], counts[11], counts[12], counts[23], sum(counts)) == (1, 1, 1, 1, 4)


def test_shares_of_what_survives():
    """Of three alive latents one survives both other seeds; the dead one has no share."""
    columns = pl.DataFrame(
        {
            "seeds": [3] * 4,
            "seeds_found": [3, 2, 1, 0],
            "seed_cosine": [0.9, 0.8, 0.2, None],
            "change_cosine": [0.5, 0.1, None, None],
        },
        schema=SCHEMA,
    )
    found = summary(
        columns, torch.tensor([True, True, True, False]), pl.Series([0.5, 0.25, 0.25, 0.0])
    )
    assert found == {"stable_share": 1 / 3, "stable_difference": 0.5}


def test_a_dictionary_without_living_latents_has_no_share_that_survives():
    columns = pl.DataFrame({"seeds": [2], "seeds_found": [0]})
    found = summary(columns, torch.tensor([False]), pl.Series([0.0]))
    assert found == {"stable_share": None, "stable_difference": 0.0}
