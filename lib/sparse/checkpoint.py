"""Training state on disk: one safetensors file, written beside the old one and renamed over it.

It holds weights, Adam moments, the dead-latent clock and the curve so far; the data order needs no
state, because batch n of a seeded stream is the same batch in every process. A write that fails
(full disk) leaves the last checkpoint as it was.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 1


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write atomically.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    building = path.with_suffix(".building")
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    described = {"facts": json.dumps({"format": FORMAT, **facts})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, building, metadata=described)
        building.replace(path)
    except (OSError, SafetensorError) as error:
        building.unlink(missing_ok=True)
        size = sum(t.numel() * t.element_size() for t in plain.values()) / 1e6
        raise OSError(
            f"{path}: a checkpoint of {size:,.0f} MB could not be written ({error}); free some disk "
            "space and run again, training continues from the checkpoint before"
        ) from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save`` wrote.

    Raises:
        ValueError: not a checkpoint, damaged, or of another format.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: the checkpoint cannot be read ({error}); delete it to train from the start"
        ) from None
    missing = [k for k in ("steps", "config", "run", "guess", "scale") if k not in facts]
    missing += [k for k in ("mean", "silent", "thresholds", "loss") if k not in tensors]
    if facts.get("format") == FORMAT and (missing or facts["steps"] < 0):
        raise ValueError(
            f"{path}: not a whole checkpoint (lacks {', '.join(missing) or 'a step count'}); delete "
            "it to train from the start"
        )
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{path}: checkpoint format {facts.get('format')}, this code reads {FORMAT}; delete it "
            "to train from the start"
        )
    return tensors, facts
