"""Where everything lives. The only module that builds paths."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPORA = ROOT / "data" / "corpora"
PUBLISHED = ROOT / "data" / "published"


def precomputed() -> Path:
    """Directory of the store and the live bundles; ``INSIDEOUT_PRECOMPUTED`` overrides it."""
    return Path(os.environ.get("INSIDEOUT_PRECOMPUTED", ROOT / "precomputed"))


def store_file(directory: Path | None = None) -> Path:
    return (directory or precomputed()) / "store.duckdb"


def live_bundle(experiment_id: str, directory: Path | None = None) -> Path:
    """What a live intervention on one experiment needs: ``adapter/`` and ``layer_NN.safetensors``."""
    return (directory or precomputed()) / "live" / experiment_id


def cache() -> Path:
    """Derived files that can be made again (dequantised weights); ``INSIDEOUT_CACHE`` overrides it."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "insideout"
    return Path(os.environ.get("INSIDEOUT_CACHE", default))


def work() -> Path:
    """Stages of pipeline runs: shards, checkpoints, parts; ``INSIDEOUT_WORK`` overrides it."""
    return Path(os.environ.get("INSIDEOUT_WORK", ROOT / ".work"))
