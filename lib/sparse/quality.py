"""How well a dictionary describes activations it was not trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lib.sparse.dictionary import Dictionary


@dataclass(frozen=True)
class Quality:
    """Held-out quality; FVE = 1 - squared error / variance, 1 is perfect, can be negative."""

    fve: tuple[float, ...]
    """One per side."""
    fve_difference: float | None
    """Of tuned - base; None for one side or when the two sides are equal."""
    l0: float
    """Mean number of active latents per token."""
    firing: Float[Tensor, " latents"]
    """Share of tokens on which each latent fires."""


@torch.no_grad()
def quality(
    dictionary: Dictionary, x: Float[Tensor, "tokens sides d"], chunk: int = 2048
) -> Quality:
    """FVE per side and of the difference, L0 and firing rates on ``x`` (raw activations).

    Runs where the dictionary lies, ``chunk`` tokens at a time.
    """
    device = dictionary.encoder.device
    errors = torch.zeros(x.shape[1] + 1, dtype=torch.float64, device=device)
    l0, firing = 0.0, torch.zeros(dictionary.latents, device=device)
    for part in x.split(chunk):
        raw = part.to(device).float()
        z = dictionary.encode(raw)
        off = raw - dictionary.decode(z)
        errors[:-1] += off.square().sum((0, 2)).double()
        if x.shape[1] == 2:
            errors[-1] += (off[:, 1] - off[:, 0]).square().sum().double()
        firing += (z > 0).sum(0)
        l0 += float((z > 0).sum())
    variance = [_variance(x[:, s].float()) for s in range(x.shape[1])]
    fve = tuple(1 - float(e) / v for e, v in zip(errors[:-1], variance, strict=True))
    change = _variance(x[:, 1].float() - x[:, 0].float()) if x.shape[1] == 2 else 0.0
    difference = 1 - float(errors[-1]) / change if change > 0 else None
    return Quality(fve, difference, l0 / len(x), firing.cpu() / len(x))


def _variance(x: Float[Tensor, "tokens d"]) -> float:
    """Total variance summed over tokens and coordinates."""
    return float((x - x.mean(0)).double().square().sum())
