"""Which latents are edited at which depth, and which are drawn to be compared with them. No torch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from lib.ablation.catalogue import BundleInfo, Offered
from lib.ablation.limits import CLASSES, SCALE_LORA, AblationError
from lib.ablation.request import AblationRequest, LayerSet

DECILES = np.linspace(0.1, 0.9, 9)


def choose(
    request: AblationRequest, info: BundleInfo, latents: Mapping[int, Offered], n_layers: int
) -> tuple[LayerSet, ...]:
    """The edited set at each chosen depth: the top ones, then the picked ones.

    Sets are empty for interventions without latents.

    Raises:
        AblationError: a depth, a hook, a ranking or a latent that is not there; names what is.
    """
    if not request.has_latents:
        return tuple(LayerSet(layer, ()) for layer in _plain_depths(request, info, n_layers))
    if request.hook not in ("", info.hook):
        raise AblationError(
            f"the dictionaries of {info.experiment_id} read the {info.hook} hook, not "
            f"{request.hook}: {request.intervention} needs them, leave the hook empty"
        )
    layers = tuple(sorted(set(request.layers))) or info.layers
    unknown = [layer for layer in layers if layer not in info.layers]
    if unknown:
        raise AblationError(f"no dictionary at depth {unknown}; offered: {list(info.layers)}")
    stray = [pair for pair in request.picked if pair[0] not in layers]
    if stray:
        raise AblationError(f"picked latents {stray} lie outside the chosen depths {list(layers)}")
    chosen = at_top(request, latents, layers, request.top)
    if request.top and not any(part.latents for part in chosen):
        raise AblationError(
            f"none of the latents at depth {list(layers)} is of {request.order}; offered: "
            f"{_rankings(latents, layers)}"
        )
    return chosen


def at_top(
    request: AblationRequest, latents: Mapping[int, Offered], layers: tuple[int, ...], top: int
) -> tuple[LayerSet, ...]:
    """As ``choose``, with another number of top latents; the depths are known to be there."""
    return tuple(_at_depth(request, layer, latents[layer], top) for layer in layers)


def _plain_depths(request: AblationRequest, info: BundleInfo, n_layers: int) -> tuple[int, ...]:
    every = tuple(range(n_layers))
    default = every if request.intervention == SCALE_LORA else info.layers
    layers = tuple(sorted(set(request.layers))) or default
    unknown = [layer for layer in layers if layer not in every]
    if unknown:
        raise AblationError(f"no depth {unknown}; {info.base_model} has 0..{n_layers - 1}")
    return layers


def _rankings(latents: Mapping[int, Offered], layers: tuple[int, ...]) -> str:
    return ", ".join(dict.fromkeys(order for layer in layers for order in latents[layer].orders))


def _at_depth(request: AblationRequest, layer: int, latents: Offered, top: int) -> LayerSet:
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
    best = ranked(latents, request.order)[:top] if top else []
    return LayerSet(layer, tuple(dict.fromkeys([*best, *picked])))


def ranked(latents: Offered, order: str) -> list[int]:
    """Ids offered for editing, best first.

    energy: largest share of the difference's energy. nu: smallest of max(nu_eps, nu_r), so first
    what the base needs least; undefined ones last. class:NAME: that class only, by energy.

    Raises:
        AblationError: the bundle does not hold what the ranking needs.
    """
    if order == "energy":
        return latents.top
    if order == "nu":
        if latents.nu_eps is None or latents.nu_r is None:
            raise AblationError(_lacking("nu (latent scaling)"))
        worst = np.maximum(latents.nu_eps, latents.nu_r)
        value = dict(zip(latents.latents.tolist(), worst.tolist(), strict=True))
        return sorted(latents.top, key=lambda j: (value[j] != value[j], value[j]))
    if latents.classes is None:
        raise AblationError(_lacking("the classes of latents"))
    wanted = CLASSES.index(order.removeprefix("class:"))
    of_class = set(latents.latents[latents.classes == wanted].tolist())
    return [j for j in latents.top if j in of_class]


def _lacking(what: str) -> str:
    return (
        f"{what}: not in this bundle, it was written by an older version; rank by energy, or "
        "measure the experiment again"
    )


def draw_random(
    selected: tuple[LayerSet, ...], latents: Mapping[int, Offered], seed: int, draw: int
) -> tuple[LayerSet, ...]:
    """Per depth, as many latents from the control pool as are edited, matched on frequency.

    Each takes the place of one edited latent and is drawn, without replacement, among those of the
    same decile of firing frequency at that depth; when none is left there, from the nearest decile.

    Raises:
        AblationError: more latents are edited than the pool holds.
    """
    return tuple(_draw(chosen, latents[chosen.layer], (seed, draw)) for chosen in selected)


def _draw(chosen: LayerSet, latents: Offered, seed: tuple[int, int]) -> LayerSet:
    decile = dict(zip(latents.latents.tolist(), deciles(latents).tolist(), strict=True))
    pool = [j for j in latents.pool if j not in chosen.latents]
    size = len(chosen.latents)
    if size > len(pool):
        raise AblationError(
            f"the control at layer {chosen.layer} needs {size} latents, its pool has {len(pool)}: "
            f"edit at most {len(pool)} latents there, or leave out the control random_latents"
        )
    random = np.random.default_rng([*seed, chosen.layer])
    drawn: list[int] = []
    for latent in chosen.latents:
        distance = np.array([abs(decile[j] - decile[latent]) for j in pool])
        near = np.flatnonzero(distance == distance.min())
        drawn.append(pool.pop(int(random.choice(near))))
    return LayerSet(chosen.layer, tuple(sorted(drawn)))


def deciles(latents: Offered) -> Int[np.ndarray, " n"]:
    """Decile of each latent's firing frequency among those that the slice carries, 0..9."""
    return np.searchsorted(np.quantile(latents.frequency, DECILES), latents.frequency)
