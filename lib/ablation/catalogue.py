"""What a live bundle offers: experiments, depths and latents, read without torch."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lib import paths
from lib.ablation import slices
from lib.ablation.fields import check_values
from lib.ablation.limits import CLASSES, AblationError
from lib.ablation.slices import REMEDY

FORMAT = 1
TOP, POOL = 0, 1
"""Roles of a latent in a slice: offered for clamping, or kept as a control."""


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
    slices: tuple[str, ...] = ()
    """sha256 of each depth's slice, in the order of ``layers``; empty, or an empty one = not checked
    (bundles written before there were hashes)."""

    def slice_hash(self, layer: int) -> str:
        """That of one depth; empty = not checked."""
        return dict(zip(self.layers, self.slices, strict=False)).get(layer, "")


class Offered(NamedTuple):
    """Latents of one depth that a slice carries."""

    latents: Int[np.ndarray, " n"]
    difference_share: Float[np.ndarray, " n"]
    """E[a^2] |d_tuned - d_base|^2 as a share of all latents'."""
    frequency: Float[np.ndarray, " n"]
    role: Int[np.ndarray, " n"]
    nu_eps: Float[np.ndarray, " n"] | None = None
    """As lib.metrics.latents.Scaling; NaN where undefined. None: not in this bundle."""
    nu_r: Float[np.ndarray, " n"] | None = None
    classes: Int[np.ndarray, " n"] | None = None
    """Place of each latent's class in ``limits.CLASSES``. None: not in this bundle."""

    @property
    def orders(self) -> list[str]:
        """The rankings that this slice can give, of ``limits.ORDERS``."""
        known = ["energy"] if self.nu_eps is None or self.nu_r is None else ["energy", "nu"]
        if self.classes is None:
            return known
        held = {int(c) for c, role in zip(self.classes, self.role, strict=True) if role == TOP}
        return [*known, *(f"class:{name}" for i, name in enumerate(CLASSES) if i in held)]

    @property
    def top(self) -> list[int]:
        """Ids offered for clamping, largest share of the difference's energy first."""
        order = np.lexsort((self.latents, -self.difference_share))
        return [int(self.latents[i]) for i in order if self.role[i] == TOP]

    @property
    def shared(self) -> list[int]:
        """Ids of the latents whose class is shared; empty where the bundle does not know classes."""
        if self.classes is None:
            return []
        return self.latents[self.classes == CLASSES.index("shared")].tolist()

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
    if not names - {"slices"} <= set(data) <= names:
        raise AblationError(f"{bundle / 'bundle.json'} does not hold what it should; {REMEDY}")
    problem = _problem(data)
    if problem:
        raise AblationError(f"{bundle / 'bundle.json'} is damaged ({problem}); {REMEDY}")
    lists = {name: tuple(data.get(name, ())) for name in ("layers", "slices")}
    return BundleInfo(**{**data, **lists})


def _problem(data: dict[str, Any]) -> str:
    """What is wrong with the values of bundle.json; empty = nothing."""
    try:
        check_values(BundleInfo, data)
    except AblationError as wrong:
        return str(wrong)
    layers, hashes = data["layers"], data.get("slices", [])
    if data["hook"] not in ("mlp", "residual"):
        return f"hook is {data['hook']!r}, not mlp or residual"
    if not layers:
        return "it names no depth"
    if layers != sorted(set(layers)) or layers[0] < 0:
        return f"layers is {layers}, not depths in order"
    if hashes and len(hashes) != len(layers):
        return f"it names {len(layers)} depths and {len(hashes)} hashes of slices"
    return ""


def write_info(bundle: Path, info: BundleInfo) -> None:
    bundle.mkdir(parents=True, exist_ok=True)
    building = bundle / "bundle.json.building"
    building.write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
    building.replace(bundle / "bundle.json")


def with_layer(bundle: Path, info: BundleInfo, layer: int) -> BundleInfo:
    """``info`` naming this depth, whose slice is written, and those written before it for the same
    experiment, each with its slice's hash."""
    hashes: dict[int, str] = {}
    if (bundle / "bundle.json").exists():
        old = read_info(bundle)
        if replace(old, layers=(), slices=()) == replace(info, layers=(), slices=()):
            hashes = {at: old.slice_hash(at) for at in old.layers}
    hashes[layer] = slices.digest(slice_file(bundle, layer))
    layers = tuple(sorted(hashes))
    return replace(info, layers=layers, slices=tuple(hashes[at] for at in layers))


def tensors(bundle: Path, layer: int) -> dict[str, np.ndarray]:
    """Everything in the slice of one depth, checked.

    Raises:
        AblationError: as ``slices.read``, or a damaged bundle.json.
    """
    info = read_info(bundle)
    return slices.read(slice_file(bundle, layer), info.slice_hash(layer), info.n_latents)


def offered(bundle: Path, layer: int) -> Offered:
    """The latents of one depth.

    Raises:
        AblationError: as ``tensors``.
    """
    found = tensors(bundle, layer)
    return Offered(**{name: found[name] for name in Offered._fields if name in found})
