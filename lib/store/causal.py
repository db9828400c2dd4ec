"""The standard ablation of every experiment: verdicts, and whole results to show as a live run's."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.ablation.limits import CONTROLS
from lib.ablation.request import (
    AblationRequest,
    AblationResult,
    Condition,
    DocumentScore,
    Draw,
    Edit,
    LayerSet,
)
from lib.store.read import _ask

RUNS = pl.Schema({
    "experiment_id": pl.String, "layers": pl.String, "depths": pl.Int64, "documents": pl.Int64,
    "tokens": pl.Int64, "top": pl.Int32, "draws": pl.Int32, "claim": pl.Boolean,
    "against": pl.List(pl.String), "share": pl.Float64, "share_low": pl.Float64,
    "share_high": pl.Float64, "ceiling": pl.Float64, "over_ceiling": pl.Float64, "p": pl.Float64,
    "strongest": pl.String, "strongest_share": pl.Float64, "agreement_tuned": pl.Float64,
    "agreement": pl.Float64, "damage_tuned": pl.Float64, "damage": pl.Float64,
})  # fmt: skip
"""Columns of ``runs``. depths = how many are edited together; strongest = the control with the
highest 97.5th percentile, which is strongest_share; damage = nats per token on neutral text above
the base's."""


def runs(store: DuckDBPyConnection) -> pl.DataFrame:
    """Every standard ablation, columns ``RUNS``; by experiment, single depths first."""
    found = _ask(
        store,
        """
        WITH control AS (
            SELECT experiment_id, layers, arg_max(condition, percentile) AS strongest,
                   max(percentile) AS strongest_share
            FROM causal WHERE percentile IS NOT NULL GROUP BY ALL
        )
        SELECT r.experiment_id, r.layers, len(r.latents) AS depths, len(r.documents) AS documents,
               list_sum(r.tokens)::BIGINT AS tokens, r.top, r.draws, r.claim, r.against, r.share,
               r.share_low, r.share_high, r.ceiling, r.over_ceiling, r.p, c.strongest,
               c.strongest_share, t.agreement AS agreement_tuned, e.agreement,
               t.neutral_nll - b.neutral_nll AS damage_tuned,
               e.neutral_nll - b.neutral_nll AS damage
        FROM causal_run r LEFT JOIN control c USING (experiment_id, layers)
        JOIN (FROM causal WHERE condition = 'base') b USING (experiment_id, layers)
        JOIN (FROM causal WHERE condition = 'tuned') t USING (experiment_id, layers)
        JOIN (FROM causal WHERE condition = 'treated') e USING (experiment_id, layers)
        ORDER BY r.experiment_id, depths, try_cast(r.layers AS INTEGER)
        """,
    )
    return found.cast(RUNS)


def result(
    store: DuckDBPyConnection, experiment_id: str, layers: str = ""
) -> AblationResult | None:
    """One standard ablation as the engine's own result; None where it was not measured.

    The store holds no text: ``request.documents`` and ``request.neutral`` hold the ids of the texts,
    so ``request.id`` is not that of the run (column ``request_id`` is). Control draws are
    rounded to a few decimals (``pack.DECIMALS``), and the latents of the random ones are not kept.

    Args:
        layers: as in column ``layers`` of ``runs``; empty = all depths together.
    """
    found = _ask(
        store,
        """SELECT * FROM causal_run WHERE experiment_id = $id AND layers = CASE WHEN $layers = ''
           THEN (SELECT arg_max(layers, len(latents)) FROM causal_run WHERE experiment_id = $id)
           ELSE $layers END""",
        id=experiment_id,
        layers=layers,
    )
    if found.is_empty():
        return None
    run = found.row(0, named=True)
    where = {"id": experiment_id, "layers": run["layers"]}
    rows = _ask(store, f"SELECT * FROM causal {_WHERE}", **where).iter_rows(named=True)  # noqa: S608
    conditions = {row["condition"]: _condition(row["condition"], row, run) for row in rows
                  if row["document_kl"] is not None}  # fmt: skip
    draws = _ask(store, f"SELECT * FROM causal_draw {_WHERE} ORDER BY draw", **where)  # noqa: S608
    drawn = sorted(draws.iter_rows(named=True), key=lambda row: CONTROLS.index(row["control"]))
    tuned = sum(document.kl_sum for document in conditions["tuned"].documents)
    return AblationResult(
        request=_request(run),
        base_model=run["base_model"],
        hook=run["hook"],
        tokens=(),
        selected=tuple(map(LayerSet, _depths(run), map(tuple, run["latents"]))),
        **{name: conditions[name] for name in ("base", "tuned", "treated", "ceiling")},
        controls=tuple(_draw(row, run, tuned) for row in drawn),
        dose=(),
        seconds=(("all", run["seconds"]),),
        device=run["device"],
    )


_WHERE = "WHERE experiment_id = $id AND layers = $layers"
Row = dict[str, object]


def _depths(run: Row) -> tuple[int, ...]:
    return tuple(map(int, str(run["layers"]).split(",")))


def _request(run: Row) -> AblationRequest:
    same = ("experiment_id", "intervention", "top", "strength", "draws", "seed", "skip_first",
            "prompt_limit")  # fmt: skip
    return AblationRequest(
        **{name: run[name] for name in same},
        documents=tuple(run["documents"]),
        neutral=tuple(run["neutral"]),
        layers=_depths(run),
        order=run["ranking"],
    )


def _condition(name: str, row: Row, run: Row, kl_tuned: float | None = None) -> Condition:
    """From its rows; of a draw the means are made anew, with ``kl_tuned`` = tuned's summed KL."""
    counts, sums, agree = run["tokens"], row["document_kl"], row["document_agree"]
    tokens, total = sum(counts), sum(sums)
    share = row.get("share")
    if kl_tuned is not None:
        share = 1 - total / kl_tuned if kl_tuned else None
    lists = [row["edit_norm"], row["difference_norm"], row["removed"]]
    lists.append(row.get("fires") or [None] * len(lists[0]))
    return Condition(
        name=name,
        kl=row.get("kl", total / tokens),
        kl_per_token=(),
        documents=tuple(map(DocumentScore, sums, counts, agree)),
        share_reversed=share,
        agreement=row.get("agreement", sum(agree) / tokens),
        neutral_nll=row.get("neutral_nll"),
        edits=tuple(map(Edit, _depths(run), *lists)),
    )


def _draw(row: Row, run: Row, kl_tuned: float) -> Draw:
    condition = _condition(row["control"], row, run, kl_tuned)
    return Draw(row["control"], row["draw"], (), condition)
