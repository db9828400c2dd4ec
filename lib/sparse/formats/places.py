"""Where in a model a foreign dictionary belongs, as far as its files or its folder say."""

import re
from pathlib import Path
from typing import NamedTuple

from lib.sparse.formats import files, recognise, saelens

_RESIDUAL, _MLP = "residual", "mlp"
_NAMES = (
    (re.compile(r"(?:blocks|model\.layers)\.(\d+)(?:\.hook_resid_post)?"), _RESIDUAL, 0),
    (re.compile(r"blocks\.(\d+)\.hook_resid_pre"), _RESIDUAL, -1),
    (re.compile(r"(?:blocks\.(\d+)\.hook_mlp_out|model\.layers\.(\d+)\.mlp)"), _MLP, 0),
)
"""Hook names of TransformerLens and transformers; what a block reads is what the one before wrote."""
_SCOPE = re.compile(r"gemma-scope-[^/]*?-(res|mlp|att|transcoders)\b")
_SCOPE_HOOKS = {"res": _RESIDUAL, "mlp": _MLP}


class Said(NamedTuple):
    """What is known of a dictionary's place; None = not said."""

    hook: str | None
    """``residual`` (a block's output) or ``mlp`` (what the MLP adds)."""
    layer: int | None
    """The first block is 0."""


def said(source: Path) -> Said:
    """Hook and layer from SAELens' ``hook_name``, or from Gemma Scope's folder names (``layer_12``
    below ``gemma-scope-2b-pt-res``). Other formats say neither.

    Raises:
        ValueError: nothing readable at ``source``; a hook that is neither a block's output nor an
            MLP's.
    """
    kind = recognise(source)
    if kind == "saelens":
        return _saelens(source)
    return _gemma_scope(source.resolve()) if kind == "gemma-scope" else Said(None, None)


def _saelens(folder: Path) -> Said:
    path = folder / saelens.CONFIG
    config = files.settings(path)
    name = (config.get("metadata") or {}).get("hook_name", config.get("hook_name"))
    if name is None:
        return Said(None, None)
    for pattern, hook, shift in _NAMES:
        found = pattern.fullmatch(str(name))
        layer = -1 if found is None else int(next(g for g in found.groups() if g)) + shift
        if layer >= 0:
            return Said(hook, layer)
    raise ValueError(
        f"{path}: hook_name {name!r} is neither a block's output (blocks.N.hook_resid_post, or "
        "hook_resid_pre of a later block) nor an MLP's (blocks.N.hook_mlp_out); take an SAE of one of "
        "these"
    )


def _gemma_scope(source: Path) -> Said:
    layer = re.search(r"/layer_(\d+)(?:/|$)", str(source))
    site = _SCOPE.search(str(source))
    if site is not None and site[1] not in _SCOPE_HOOKS:
        raise ValueError(
            f"{source}: a Gemma Scope dictionary of {site[1]!r}; only `res` (residual stream) and "
            "`mlp` (MLP output) can be compared with deltas"
        )
    return Said(
        None if site is None else _SCOPE_HOOKS[site[1]], None if layer is None else int(layer[1])
    )
