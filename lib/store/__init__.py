"""One DuckDB file of results: write.py builds it, read.py and latents.py answer from it."""

from pathlib import Path

SCHEMA_VERSION = 7
"""Of schema.sql; raised with every change that older readers or files would misread."""
ADDED = {
    4: ("causal_run", "causal", "causal_draw"),
    5: (
        "lens_run",
        "lens_difference",
        "lens_reading",
        "lens_words",
        "lens_robustness",
        "lens_swap",
        "lens_steering",
        "lens_generation",
        "lens_similarity",
        "sweep_point",
        "sweep_output",
        "geometry_fit",
        "geometry_score",
        "geometry_module",
    ),
    6: ("sweep_layer", "weight_module", "weight_overlap"),
    7: ("geometry_place", "geometry_added", "geometry_written"),
}
"""Tables that are all that each version has more than the one before, or has in another shape: files of
the versions before are read, as if these were empty, and carried over by the next run."""
READABLE = range(min(ADDED) - 1, SCHEMA_VERSION + 1)
SCHEMA = Path(__file__).with_name("schema.sql")


def newer_tables(version: int) -> set[str]:
    """What a file of this version lacks."""
    return {name for since, names in ADDED.items() if since > version for name in names}
