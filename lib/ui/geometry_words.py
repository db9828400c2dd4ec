"""Names of fits and scores on the geometry page, and one score in words, never without its chance."""

from collections.abc import Mapping
from typing import Any

FAIR = {
    "adapter": "adapter SAE",
    "pca": "PCA, as many components",
    "adapter_pursuit": "adapter SAE's directions*",
    "pretrained_pursuit": "pretrained directions*",
    "random_pursuit": "as many random directions*",
}
"""Descriptions with k directions a token."""
OTHERS = {
    "subtracted": "encode both, subtract",
    "native": "pretrained SAE on the delta",
    "span": "span of all pretrained",
    "mean": "mean delta alone",
}
"""Descriptions with another budget."""
READ = {
    "adapter": "against PCA: does sparsity buy anything?",
    "pca": "the adapter SAE against it",
    "adapter_pursuit": "against the two below: whose directions?",
    "pretrained_pursuit": "above random directions counts",
    "random_pursuit": "chance of the row above",
    "subtracted": "own budget; below 0 = worse than the mean",
    "native": "made for activations, not for deltas: no evidence",
    "span": "evidence only below full dimension",
    "mean": "the constant offset (0 about the mean)",
}
"""What each is to be read against."""
SCORES = {
    "signed_max_cosine": "max cosine, signed",
    "absolute_max_cosine": "max cosine, absolute",
    "cka": "CKA of deltas and base activations",
    "angle": "mean principal angle",
    "cosine_squared": "mean squared cosine",
}
AGAINST = {
    "pretrained": "adapter \u2013 pretrained",
    "adapter_seeds": "adapter, two seeds",
    "pretrained_seeds": "pretrained, two seeds",
    "base_activations": "deltas \u2013 base",
}
UNITS = {"angle": "\u00b0"}
RELATED = 5.0
"""Standard errors above the exact chance of random rows from which simulated chance is none."""


def plus(value: float | None) -> str:
    """Two decimals with a sign."""
    if value is None:
        return "not defined"
    return "0.00" if abs(value) < 0.005 else f"{value:+,.2f}".replace("-", "\u2212")


def distance_words(row: Mapping[str, Any]) -> str:
    """One score for the pointer: distance first, then the bare value beside chance.

    Args:
        row: of ``lib.store.geometry.scores``.
    """
    unit = UNITS.get(str(row["score"]), "")
    space = f", k = {row['k']}" if row["k"] is not None else ""
    null = row["null_half"]
    band = "not defined" if null is None else f"\u00b1{null:.2f} sd"
    exact = "" if row["expected"] is None else f"; random rows, exact: {row['expected']:.3f}"
    errors = row["errors"]
    significance = "" if errors is None else f", {abs(errors):.3g} standard errors"
    return (
        f"rank {row['rank']}, layer {row['layer']}, {AGAINST[str(row['against'])]}<br>"
        f"{SCORES[str(row['score'])]}{space}: {plus(row['nearer'])} sd nearer than chance"
        f"{significance}<br>bare {number(row['value'])}{unit}, chance {number(row['chance'])}{unit} "
        f"(sd {number(row['chance_sd'])}{exact})<br>95 % of chance: {band}; n = {row['n']}"
    )


def number(value: object) -> str:
    """Three significant digits."""
    return "not defined" if value is None else f"{value:.3g}"
