"""One DuckDB file of results: write.py builds it, read.py and latents.py answer from it."""

from pathlib import Path

SCHEMA_VERSION = 3
"""Of schema.sql; raised with every change that older readers or files would misread."""
SCHEMA = Path(__file__).with_name("schema.sql")
