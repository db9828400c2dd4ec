"""How many latents of each crosscoder belong to the tuned model alone, by three definitions."""

import polars as pl
from duckdb import DuckDBPyConnection

from lib.store.read import _ask


def novelty(store: DuckDBPyConnection) -> pl.DataFrame:
    """One row per experiment and layer with a crosscoder, by experiment and layer.

    Columns: experiment_id, layer; ``alive`` latents; ``strict`` = class new and needed by the tuned
    model alone by latent scaling; ``loose`` = class new; ``leaning`` = new or amplified;
    ``suppressed``; ``eliminated``; ``unscaled`` = class new without a nu (neither strict nor
    refuted); ``energy_strict`` and ``energy_loose`` = share of all latents' energy in them;
    ``fve_difference`` of the dictionary. Besides, of the random-LoRA controls of the experiment:
    ``null_draws`` (0 without any) and the mean over them of ``null_alive``, ``null_strict``,
    ``null_loose``, ``null_leaning``, ``null_energy_strict``, ``null_energy_loose`` and
    ``null_fve_difference`` (NULL without any).

    Source: Minder et al. 2025, arXiv:2504.02922, section 3.1 (strict), section 2.2 (classes).
    """
    return _ask(
        store,
        """
        WITH controls AS (
            SELECT experiment_id, layer, count(*) AS null_draws, avg(alive) AS null_alive,
                   avg(strict) AS null_strict, avg(loose) AS null_loose,
                   avg(leaning) AS null_leaning, avg(energy_strict) AS null_energy_strict,
                   avg(energy_loose) AS null_energy_loose,
                   avg(fve_difference) AS null_fve_difference
            FROM latent_count WHERE control = 'random_lora' GROUP BY experiment_id, layer)
        SELECT c.* EXCLUDE (control, draw), coalesce(n.null_draws, 0) AS null_draws,
               n.* EXCLUDE (experiment_id, layer, null_draws)
        FROM latent_count c LEFT JOIN controls n
            ON n.experiment_id = c.experiment_id AND n.layer = c.layer
        WHERE c.control = 'none'
        ORDER BY c.experiment_id, c.layer
        """,
    )
