"""Paired activations: base (adapter off) and tuned in one pass over the same batch."""

from lib.activations.record import Recorder, harvest
from lib.activations.shards import Harvest, Manifest, PairingError
from lib.activations.stream import Stream
from lib.activations.windows import Window, batches, windows

__all__ = [
    "Harvest", "Manifest", "PairingError", "Recorder", "Stream", "Window", "batches", "harvest",
    "windows",
]  # fmt: skip
