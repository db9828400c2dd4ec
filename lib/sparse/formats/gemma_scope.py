"""Gemma Scope SAEs: ``params.npz`` with a JumpReLU SAE; b_dec is not taken from the input."""

from pathlib import Path

from lib.sparse.dictionary import Dictionary
from lib.sparse.formats import files
from lib.sparse.formats.saelens import Parts

WEIGHTS = "params.npz"


def read(path: Path, *, k: int | None = None) -> Dictionary:
    """A ``Dictionary`` with the same codes and reconstructions.

    ``path`` is the npz file. k is the number in the folder's name (``average_l0_71``), else the
    caller's.

    Raises:
        ValueError: the file is damaged, or its arrays do not fit together.

    Source: Lieberum et al. 2024, arXiv:2408.05147, and its published notebook.
    """
    held = {("W_" + n[2:] if n.startswith("w_") else n): a for n, a in files.arrays(path).items()}
    shape = tuple(held["W_enc"].shape) if "W_enc" in held else ()
    if len(shape) != 2:
        raise ValueError(f"{path}: W_enc has shape {shape}, expected (d, latents)")
    d, latents = shape
    parts = Parts(
        files.weight(held, "W_enc", (d, latents), path),
        files.weight(held, "b_enc", (latents,), path),
        files.weight(held, "W_dec", (latents, d), path),
        files.weight(held, "b_dec", (d,), path),
        files.weight(held, "threshold", (latents,), path),
    )
    active = files.mean_active(files.l0_in(path), k, latents, path)
    return parts.dictionary(active, centred=False)
