"""Machine labels that are stored on this machine: read and searched. Reviewers' own live elsewhere."""

from pathlib import Path
from typing import Any

import polars as pl

from lib.llm import transcripts
from lib.llm.labels import Detection

COLUMNS = pl.Schema({
    "experiment_id": pl.String, "layer": pl.Int64, "latent": pl.Int64, "label": pl.String,
    "score": pl.Float64, "score_low": pl.Float64, "score_high": pl.Float64, "other": pl.Float64,
    "other_low": pl.Float64, "other_high": pl.Float64, "other_label": pl.String,
    "passages": pl.Int64, "beside": pl.Int64, "elsewhere": pl.Int64, "unsure": pl.Float64,
    "tokens": pl.Int64, "model": pl.String, "at": pl.String,
    "own_counts": pl.List(pl.Int64), "other_counts": pl.List(pl.Int64),
})  # fmt: skip
"""score, other = balanced accuracy with 95 % of the label and of another feature's label on the same
passages; null = not measured."""


def labels(folder: Path | None = None) -> pl.DataFrame:
    """The latest label of every feature that has one, columns ``COLUMNS``; by experiment, layer and
    feature."""
    latest: dict[tuple[str, int, int], dict[str, Any]] = {}
    for file in sorted((folder or transcripts.folder("label")).glob("*.jsonl")):
        for record in transcripts.read(file).records:
            if record["kind"] == "label" and record["label"] is not None:
                latest[record["experiment"], record["layer"], record["latent"]] = _row(record)
    rows = [latest[name] for name in sorted(latest)]
    return pl.DataFrame(rows, schema=COLUMNS)


def search(found: pl.DataFrame, text: str) -> pl.DataFrame:
    """Labels with every word of ``text`` somewhere in them, upper and lower case alike."""
    for word in text.casefold().split():
        found = found.filter(pl.col("label").str.to_lowercase().str.contains(word, literal=True))
    return found


def _row(record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"experiment_id": record["experiment"]}
    row |= {n: record[n] for n in ("layer", "latent", "label", "other_label", "unsure", "tokens")}
    row |= {"model": record["model"], "at": record["at"], "passages": len(record["origins"])}
    row |= {name: record["origins"].count(name) for name in ("beside", "elsewhere")}
    for name, column in (("own", "score"), ("other", "other")):
        counts = record[name]
        share = Detection(*counts).score if counts else (None, None, None)
        row |= dict(zip((column, f"{column}_low", f"{column}_high"), share, strict=True))
        row[f"{name}_counts"] = counts
    return row
