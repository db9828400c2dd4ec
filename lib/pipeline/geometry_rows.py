"""Rows of the geometry tables: every score beside its chance and the other seed, all of it held-out."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Geometry
from lib.geometry import written
from lib.geometry.alignment import Cosines, align
from lib.geometry.deltas import Deltas, Place
from lib.geometry.density import Density, density, firings
from lib.geometry.directions import energy_rows
from lib.geometry.distance import Distance
from lib.geometry.factors import read
from lib.geometry.fits import compare, rows
from lib.geometry.similarity import similarity
from lib.geometry.subspaces import subspaces
from lib.geometry.weights import chance_rank, spectra
from lib.metrics.intervals import Interval
from lib.sparse import Dictionary, TrainingLog

Row = dict[str, Any]


class Measured(NamedTuple):
    """One place: deltas, two seeds of dictionaries of them, two seeds or one of the base's."""

    place: Place
    train: Deltas
    held: Deltas
    adapters: tuple[Dictionary, Dictionary]
    pretrained: tuple[Dictionary, ...]
    log: TrainingLog


def place_tables(measured: Measured, recipe: Geometry) -> dict[str, list[Row]]:
    """``geometry_place``, ``geometry_fit`` and ``geometry_score`` of one place."""
    place, held = measured.place, measured.held
    train_delta, delta, base = measured.train.delta[place], held.delta[place], held.base[place]
    fits = compare(
        train_delta, delta, held.documents, base=base, adapter=measured.adapters[0],
        pretrained=measured.pretrained[0], seed=recipe.seed,
    )  # fmt: skip
    counts = [firings(a, delta, held.documents) for a in measured.adapters]
    dense = density(counts[0], seed=recipe.seed)
    dense_base = density(firings(measured.pretrained[0], base, held.documents), seed=recipe.seed)
    fit_rows = [
        {"fit": name, **_ends("fve", fit.fve), **_ends("energy", fit.energy),
         "active": fit.active, "dimensions": fit.rank}
        for name, fit in fits._asdict().items()
        if name != "k"
    ]  # fmt: skip
    return {
        "geometry_place": [
            {
                "tokens": len(delta),
                "train_tokens": len(train_delta),
                "latents": dense.latents,
                "k": fits.k,
                "steps": measured.log.steps,
                "stopped": measured.log.stopped,
                "delta_norm": float(delta.norm(dim=1).mean()),
                "base_norm": float(base.norm(dim=1).mean()),
                **_density("density", dense),
                **_density("base_density", dense_base),
            }
        ],
        "geometry_fit": fit_rows,
        "geometry_score": [*_cosines(measured, counts), *_spaces(measured, recipe)],
    }


def _cosines(measured: Measured, counts: list) -> list[Row]:
    """Of latents that fire on held-out text; what never fires has learned no direction."""
    fire = [torch.tensor(c.fired.sum(0) > 0) for c in counts]
    if min(int(f.sum()) for f in fire) < 2:
        return []
    adapters = [rows(d)[f] for d, f in zip(measured.adapters, fire, strict=True)]
    pretrained = [rows(d) for d in measured.pretrained]
    other = pretrained[1] if len(pretrained) > 1 else None
    found = align(adapters[0], pretrained[0], other_adapter=adapters[1], other_pretrained=other)
    named = {"pretrained": found.pretrained, "adapter_seeds": found.adapter_seeds,
             "pretrained_seeds": found.pretrained_seeds}  # fmt: skip
    return [
        row
        for against, cosines in named.items()
        if cosines is not None
        for row in _cosine_rows(against, cosines)
    ]


def _cosine_rows(against: str, found: Cosines) -> list[Row]:
    expected = {"signed": found.expected.mean, "absolute": found.expected_absolute.mean}
    return [
        _score(f"{name}_max_cosine", against, getattr(found, name)) | {"expected": expected[name]}
        for name in expected
    ]


def _spaces(measured: Measured, recipe: Geometry) -> list[Row]:
    """Principal angles of the k strongest directions, and CKA of deltas with base activations."""
    place, held = measured.place, measured.held
    adapters = [energy_rows(d, held.delta[place]) for d in measured.adapters]
    pretrained = [energy_rows(d, held.base[place]) for d in measured.pretrained]
    k = min(recipe.subspace, *(_rank(x) for x in (*adapters, *pretrained)))
    found = []
    if k:
        pairs = {"pretrained": (adapters[0], pretrained[0]), "adapter_seeds": adapters}
        if len(pretrained) > 1:
            pairs["pretrained_seeds"] = pretrained
        for against, (one, other) in pairs.items():
            spaces = subspaces(one, other, k, seed=recipe.seed)
            found.append(_score("angle", against, spaces.angle) | {"k": k})
            found.append(_score("cosine_squared", against, spaces.cosine_squared) | {"k": k})
    cka = similarity(held.delta[place], held.base[place], seed=recipe.seed)
    return [*found, _score("cka", "base_activations", cka)]


def _rank(x: Float[Tensor, "rows d"]) -> int:
    return int((x.norm(dim=1) > 0).sum())


def _score(name: str, against: str, found: Distance) -> Row:
    return {"score": name, "against": against, **found._asdict()}


def _ends(name: str, found: Interval) -> Row:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _density(name: str, found: Density) -> Row:
    ends = {f"{name}_{part}": getattr(found, part) for part in ("per_token", "often", "effective")}
    return {k: v for part, interval in ends.items() for k, v in _ends(part, interval).items()}


def contribution_tables(found: written.Measured) -> dict[str, list[Row]]:
    """``geometry_added`` of every adapted matrix, ``geometry_written`` of every block."""
    tokens = {"tokens": found.tokens}
    return {
        "geometry_added": [
            tokens
            | {"module": one.module, "module_layer": one.layer, "kind": one.kind}
            | _ends("relative", one.relative)
            | {"chance": one.chance}
            for one in found.added
        ],
        "geometry_written": [
            tokens
            | {"layer": one.layer, **_ends("direct", one.direct), **_ends("size", one.size)}
            | {"moved": one.moved}
            for one in found.written
        ],
    }


def weight_rows(adapter: Path) -> list[Row]:
    """Table ``geometry_module``: the update of every adapted matrix, and ranks that chance gives."""
    factors = read(adapter)
    found = []
    for one, weights in zip(factors, spectra(factors), strict=True):
        entropy, stable = _chance_rank(len(one.b), one.a.shape[1], weights.r)
        row = weights._asdict() | {"chance_entropy_rank": entropy.mean,
                                   "chance_stable_rank": stable.mean}  # fmt: skip
        row["module_layer"] = row.pop("layer")
        row["lora_rank"] = row.pop("r")
        found.append(row)
    return found


_chance_rank = cache(chance_rank)
"""Matrices of one shape share their chance."""
