"""Is a latent what it looks like, or an artefact of training, of its norm or of the text?

Six checks on numbers that are stored for every latent. Each gives true, false or null: a number that
was not measured passes nothing.
"""

import polars as pl

CHECKS = ("seeds", "firings", "density", "scaling", "document", "position")
FOUND = 0.7
"""Cosine of two whole decoders from which on they count as the same latent."""
MIN_FIRINGS = 100
"""Tokens behind a latent's statistics."""
DENSE = 0.1
"""Share of tokens; a latent that fires on more describes no single thing."""
BOUND = 0.5
"""Share of a latent's firings in one document, or at one position of the context window."""
ABSENT = (0.2, 0.5)
"""nu error and nu reconstruction below which the other model has next to nothing of a latent."""
WEAKER = (0.9, 1.0)
"""The same for a latent that the other model has, but more weakly."""
ALIKE = (0.8, 1.25)
"""Range of both nu for a latent that serves both models alike: the norm ratios at the class cuts."""


def check(latents: pl.DataFrame) -> pl.DataFrame:
    """One Boolean column per name in ``CHECKS``, null where the numbers were not measured.

    Args:
        latents: class, seeds, seeds_found, firings, frequency (share of tokens), nu_eps, nu_r,
            top_document, top_position (shares of firings), as in table ``latent``.

    seeds     found again in the dictionary of every other seed
    firings   fires on at least ``MIN_FIRINGS`` tokens
    density   fires on less than ``DENSE`` of all tokens
    scaling   ``agrees``: the class, which comes from norms, says the same as latent scaling
    document  less than ``BOUND`` of its firings are in one document
    position  less than ``BOUND`` of its firings are at one position of the context window
    """

    def column(name: str) -> pl.Expr:
        """NaN, which polars holds to be above everything, and infinity are not measured."""
        if not latents.schema[name].is_float():
            return pl.col(name)
        return pl.when(pl.col(name).is_finite()).then(pl.col(name))

    return latents.select(
        seeds=column("seeds_found") >= column("seeds"),
        firings=column("firings") >= MIN_FIRINGS,
        density=column("frequency") < DENSE,
        scaling=agrees(column("class"), column("nu_eps"), column("nu_r")),
        document=column("top_document") < BOUND,
        position=column("top_position") < BOUND,
    )


def count(latents: pl.DataFrame) -> pl.DataFrame:
    """``checks_passed`` and ``checks_unknown``, each 0..6, of the rows that ``check`` takes."""
    found = check(latents)
    return found.select(
        checks_passed=pl.sum_horizontal(pl.col(CHECKS).fill_null(False)).cast(pl.Int32),
        checks_unknown=pl.sum_horizontal(pl.col(CHECKS).is_null()).cast(pl.Int32),
    )


def agrees(name: pl.Expr, nu_eps: pl.Expr, nu_r: pl.Expr) -> pl.Expr:
    """Whether latent scaling (base over tuned) confirms a class; null for dead latents.

    ``ABSENT`` for new is that of the source; amplified and shared are graded by the same numbers.
    eliminated and suppressed are their mirror images, with 1 / nu (its size: the tuned side's scale
    is near 0 and may have either sign).

    Source: Minder et al. 2025, arXiv:2504.02922, section 3.1 (new); ours for the other classes.
    """

    def below(limits: tuple[float, float], eps: pl.Expr, r: pl.Expr) -> pl.Expr:
        return (eps.abs() < limits[0]) & (r.abs() < limits[1])

    nu_eps, nu_r = (nu.cast(pl.Float64).fill_nan(None) for nu in (nu_eps, nu_r))
    mirrored = (1 / nu_eps).abs(), (1 / nu_r).abs()
    return (
        pl.when(name == "new")
        .then(below(ABSENT, nu_eps, nu_r))
        .when(name == "amplified")
        .then(below(WEAKER, nu_eps, nu_r))
        .when(name == "shared")
        .then(nu_eps.is_between(*ALIKE) & nu_r.is_between(*ALIKE))
        .when(name == "suppressed")
        .then(below(WEAKER, *mirrored))
        .when(name == "eliminated")
        .then(below(ABSENT, *mirrored))
    )
