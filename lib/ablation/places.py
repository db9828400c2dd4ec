"""Places that a worker is started for, as one word: ``cpu``, ``cuda:1``, ``cuda:0/bf16``, ``ndif``.

A result is of the kind of place that it was computed on: another device or precision rounds
otherwise, so it gives another result. No torch.
"""

from collections.abc import Iterable
from typing import NamedTuple

from lib.ablation import backend
from lib.ablation.limits import AblationError

PRECISIONS = ("fp32", "bf16")
NDIF = "ndif"
"""The remote service, as a device."""
SPREAD = "auto"
"""One model over all GPUs, as a device."""


class Place(NamedTuple):
    """What one worker runs on."""

    device: str | None
    """As torch names it, ``SPREAD`` or ``NDIF``; None = a GPU if there is one, else the CPU."""
    precision: str = "fp32"
    """One of ``PRECISIONS``."""

    @property
    def options(self) -> tuple[str, ...]:
        """Of the worker's command line."""
        named = () if self.device is None else ("--device", self.device)
        return (*named, *(() if self.precision == "fp32" else ("--dtype", self.precision)))

    @property
    def kind(self) -> str:
        """As the key of a result names it: GPUs of one machine are one kind, ``cuda/bf16``."""
        device = backend.default_device() if self.device is None else self.device
        return kind(device, self.precision)


def place(word: str | None) -> Place:
    """Read ``DEVICE`` or ``DEVICE/PRECISION``; None = the worker chooses.

    Raises:
        AblationError: an unknown precision.
    """
    if word is None:
        return Place(None)
    device, _, precision = word.partition("/")
    if precision and precision not in PRECISIONS:
        raise AblationError(
            f"{word!r} asks for the precision {precision!r}: write DEVICE or DEVICE/PRECISION, with "
            f"one of {', '.join(PRECISIONS)}"
        )
    return Place(device or None, precision or "fp32")


def kind(device: str, precision: str) -> str:
    """The kind of place of a device, as torch names it, at a precision."""
    if device == NDIF:
        return NDIF  # its precision is its own
    name = "cuda" if device == SPREAD else device.partition(":")[0]
    return f"{name}/{precision}"


def kinds(words: Iterable[str | None]) -> tuple[str, ...]:
    """Of several workers, each kind once, in their order."""
    return tuple(dict.fromkeys(place(word).kind for word in words))
