"""One DuckDB file of results: write.py builds it, read.py and latents.py answer from it."""

from pathlib import Path

SCHEMA_VERSION = 4
"""Of schema.sql; raised with every change that older readers or files would misread."""
READABLE = (3, SCHEMA_VERSION)
"""Files of these versions are read, and carried over by the next run: version 3 lacks the causal
tables, all others are the same."""
SCHEMA = Path(__file__).with_name("schema.sql")
ADDED = ("causal_run", "causal", "causal_draw")
"""Tables that the older of the readable versions lacks."""
