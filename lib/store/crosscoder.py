"""One crosscoder as a whole, and the artefact checks of its latents.

The checks are made from stored numbers at every question: a changed limit needs no new store.
"""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.metrics.artefacts import check, count
from lib.store.handle import damage_named
from lib.store.read import _ask

_NUMBERS = """
    SELECT latent, class, seeds, seeds_found, firings, frequency, nu_eps, nu_r, top_document,
           top_position
    FROM latent WHERE experiment_id = $experiment_id AND layer = $layer ORDER BY latent
"""


def ask_checked(
    store: DuckDBPyConnection, sql: str, *, experiment_id: str, layer: int, **values: object
) -> pl.DataFrame:
    """Ask a question that may join ``checked``: latent, checks_passed, checks_unknown."""
    numbers = _ask(store, _NUMBERS, experiment_id=experiment_id, layer=layer)
    checked = numbers.select("latent").hstack(count(numbers))
    with damage_named(), store.cursor() as cursor:
        cursor.register("checked", checked)  # seen by this cursor alone
        parameters = {"experiment_id": experiment_id, "layer": layer, **values}
        return cursor.sql(sql, params=parameters).pl()


def dictionary_row(store: DuckDBPyConnection, experiment_id: str, layer: int) -> pl.DataFrame:
    """The row of table ``dictionary``: one, or none."""
    return _ask(
        store,
        """
        SELECT latents, latents_asked, k, alive, dead_share, fve_base, fve_tuned,
               fve_difference, l0, train_tokens, heldout_tokens, stable_share, stable_difference,
               seed_chance
        FROM dictionary
        WHERE experiment_id = $experiment_id AND layer = $layer AND kind = 'crosscoder'
        """,
        experiment_id=experiment_id,
        layer=layer,
    )


def check_summary(store: DuckDBPyConnection, experiment_id: str, layer: int) -> dict[str, object]:
    """What the latents of one crosscoder look like together; dead ones are left out.

    One entry per name in ``CHECKS``: the share that passes it, of those measured. Beside them:
    ``mean_firings`` and ``mean_frequency``, ``top_document`` and ``top_position`` (medians). None =
    not measured.
    """
    rows = _ask(store, _NUMBERS, experiment_id=experiment_id, layer=layer)
    rows = rows.filter(pl.col("class") != "dead")
    passed = {name: series.mean() for name, series in check(rows).to_dict().items()}
    return passed | {
        "mean_firings": rows["firings"].mean(),
        "mean_frequency": rows["frequency"].mean(),
        "top_document": rows["top_document"].median(),
        "top_position": rows["top_position"].median(),
    }
