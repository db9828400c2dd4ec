"""One DuckDB file of results: write.py builds it, read.py and latents.py answer from it."""

SCHEMA_VERSION = 3
"""Of schema.sql; raised with every change that older readers or files would misread."""
