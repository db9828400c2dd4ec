"""What a live bundle offers: experiments, depths and latents, read without torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open

from lib import paths
from lib.ablation.request import AblationError, AblationRequest, LayerSet

FORMAT = 1
TOP, POOL = 0, 1
"""Roles of a latent in a slice: offered for clamping, or kept as a control."""
REMEDY = "make it with `python -m lib run FILE`, where FILE says `keep: full` or nothing about it"


@dataclass(frozen=True)
class BundleInfo:
    """``bundle.json``: what the slices belong to."""

    experiment_id: str
    base_model: str
    hook: str
    """mlp | residual"""
    k: int
    n_latents: int
    """Size of the full dictionary that the slices were cut from."""
    base_hash: str
    """LoadedModel.weights_hash of the base; empty = not checked."""
    adapter_hash: str = ""
    """models.adapter_hash; empty = not checked."""
    layers: tuple[int, ...] = ()
    version: int = FORMAT


class Offered(NamedTuple):
    """Latents of one depth that a slice carries."""

    latents: Int[np.ndarray, " n"]
    difference_share: Float[np.ndarray, " n"]
    """E[a^2] |d_tuned - d_base|^2 as a share of all latents'."""
    frequency: Float[np.ndarray, " n"]
    role: Int[np.ndarray, " n"]

    @property
    def top(self) -> list[int]:
        """Ids offered for clamping, largest share of the difference's energy first."""
        order = np.lexsort((self.latents, -self.difference_share))
        return [int(self.latents[i]) for i in order if self.role[i] == TOP]

    @property
    def pool(self) -> list[int]:
        """Ids of the control pool, ascending."""
        return sorted(int(j) for j in self.latents[self.role == POOL])


def slice_file(bundle: Path, layer: int) -> Path:
    return bundle / f"layer_{layer:02d}.safetensors"


def experiments(directory: Path | None = None) -> list[str]:
    """Experiments that have a live bundle."""
    root = paths.live_bundle("any", directory).parent
    found = (f.parent.name for f in root.glob("*/bundle.json"))
    return sorted(name for name in found if not name.startswith("."))  # dot: being written


def bundle_of(experiment_id: str, directory: Path | None = None) -> Path:
    """The bundle's directory; refuses names that are not one of ``experiments()``."""
    known = experiments(directory)
    if experiment_id not in known:
        offered = f"offered: {', '.join(known)}" if known else "there is none yet"
        raise AblationError(f"no live bundle for {experiment_id!r} ({offered}); {REMEDY}")
    return paths.live_bundle(experiment_id, directory)


def stamp(bundle: Path) -> str:
    """Changes whenever the pipeline publishes the bundle anew."""
    return str((bundle / "bundle.json").stat().st_mtime_ns)


def read_info(bundle: Path) -> BundleInfo:
    """Raises AblationError: another format version, or a bundle without a measured depth."""
    try:
        data = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise AblationError(f"{bundle / 'bundle.json'} is damaged ({problem}); {REMEDY}") from None
    version = data.get("version") if isinstance(data, dict) else None
    if version != FORMAT:
        raise AblationError(
            f"{bundle / 'bundle.json'} has format {version}, this code reads {FORMAT}; {REMEDY}"
        )
    names = {f.name for f in fields(BundleInfo)}
    if set(data) != names or data["hook"] not in ("mlp", "residual"):
        raise AblationError(f"{bundle / 'bundle.json'} does not hold what it should; {REMEDY}")
    if not data["layers"]:
        raise AblationError(f"{bundle / 'bundle.json'} names no depth; {REMEDY}")
    return BundleInfo(**{**data, "layers": tuple(data["layers"])})


def write_info(bundle: Path, info: BundleInfo) -> None:
    bundle.mkdir(parents=True, exist_ok=True)
    building = bundle / "bundle.json.building"
    building.write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
    building.replace(bundle / "bundle.json")


def with_layer(bundle: Path, info: BundleInfo, layer: int) -> BundleInfo:
    """``info`` naming this depth and those written before it for the same experiment."""
    before: tuple[int, ...] = ()
    if (bundle / "bundle.json").exists():
        old = read_info(bundle)
        before = old.layers if replace(old, layers=()) == replace(info, layers=()) else ()
    return replace(info, layers=tuple(sorted({*before, layer})))


def offered(bundle: Path, layer: int) -> Offered:
    """The latents of one depth; reads a few kilobytes of the slice."""
    file = slice_file(bundle, layer)
    if not file.exists():
        raise AblationError(f"{file} is missing though bundle.json names it; {REMEDY}")
    try:
        with safe_open(file, framework="numpy") as tensors:
            return Offered(
                latents=tensors.get_tensor("latents"),
                difference_share=tensors.get_tensor("difference_share"),
                frequency=tensors.get_tensor("frequency"),
                role=tensors.get_tensor("role"),
            )
    except SafetensorError as problem:
        raise AblationError(f"{file} is damaged ({problem}); {REMEDY}") from None


def choose(
    request: AblationRequest, info: BundleInfo, latents: Mapping[int, Offered]
) -> tuple[LayerSet, ...]:
    """The clamped set at each chosen depth: the top ones, then the picked ones.

    Raises:
        AblationError: a depth or a latent that the bundle does not carry; names what it does.
    """
    layers = tuple(sorted(set(request.layers))) or info.layers
    unknown = [layer for layer in layers if layer not in info.layers]
    if unknown:
        raise AblationError(f"no dictionary at depth {unknown}; offered: {list(info.layers)}")
    stray = [pair for pair in request.picked if pair[0] not in layers]
    if stray:
        raise AblationError(f"picked latents {stray} lie outside the chosen depths {list(layers)}")
    return tuple(_at_depth(request, layer, latents[layer]) for layer in layers)


def _at_depth(request: AblationRequest, layer: int, latents: Offered) -> LayerSet:
    picked = [latent for at, latent in request.picked if at == layer]
    known = {int(j) for j in latents.latents}
    missing = sorted(set(picked) - known)
    if missing:
        shown = ", ".join(map(str, latents.top[:8]))
        raise AblationError(
            f"latents {missing} at layer {layer} are not in the live bundle; it carries "
            f"{len(known)} of the dictionary: the top ones by difference ({shown}, ...) and a "
            "control pool"
        )
    return LayerSet(layer, tuple(dict.fromkeys([*latents.top[: request.top], *picked])))


def draw_control(
    selected: tuple[LayerSet, ...], latents: Mapping[int, Offered], seed: int
) -> tuple[LayerSet, ...]:
    """Per depth, as many latents from the control pool as are clamped, without replacement."""
    return tuple(_draw(chosen, latents[chosen.layer], seed) for chosen in selected)


def _draw(chosen: LayerSet, latents: Offered, seed: int) -> LayerSet:
    pool = [j for j in latents.pool if j not in chosen.latents]
    size = len(chosen.latents)
    if size > len(pool):
        raise AblationError(
            f"the control at layer {chosen.layer} needs {size} latents, its pool has {len(pool)}: "
            f"clamp at most {len(pool)} latents there"
        )
    draw = np.random.default_rng([seed, chosen.layer]).choice(len(pool), size, replace=False)
    return LayerSet(chosen.layer, tuple(sorted(pool[i] for i in draw)))
