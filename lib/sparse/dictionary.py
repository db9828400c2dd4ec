"""The dictionary itself, in raw units: encode, decode, save, load."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 2
Selection = Literal["threshold", "topk"]
PARTS = ("encoder", "encoder_bias", "decoder", "decoder_bias", "thresholds")


class Codes(NamedTuple):
    """Sparse codes of a batch: one row per (token, active latent), ordered by token."""

    token: Int[Tensor, " active"]
    latent: Int[Tensor, " active"]
    value: Float[Tensor, " active"]


class Dictionary:
    """A sparse dictionary over ``sides`` views of the same tokens.

    code           a = relu(sum_s x_s @ encoder[s] + encoder_bias), kept where a > thresholds
                   (``selection`` "topk": the k largest of each token instead)
    reconstruction x_s = a @ decoder[:, s] + decoder_bias[s]

    Normalisation used while training is folded into the weights, so inputs and outputs are raw
    activations. One threshold per latent serves BatchTopK (theta over the norm by which latents are
    ranked), JumpReLU and, at 0, plain ReLU dictionaries alike. Source: Lindsey et al. 2024
    (crosscoders), Minder et al. 2025, arXiv:2504.02922 (BatchTopK with threshold inference).
    """

    def __init__(self, sides: int, d: int, latents: int, k: int) -> None:
        if min(sides, d, latents) < 1 or not 0 < k <= latents:
            raise ValueError(
                f"sides, d and latents must be positive and k in 1..latents; got sides={sides}, "
                f"d={d}, latents={latents}, k={k}"
            )
        self.sides, self.d, self.latents, self.k = sides, d, latents, k
        self.encoder: Float[Tensor, "sides d latents"] = torch.zeros(sides, d, latents)
        self.encoder_bias: Float[Tensor, " latents"] = torch.zeros(latents)
        self.decoder: Float[Tensor, "latents sides d"] = torch.zeros(latents, sides, d)
        self.decoder_bias: Float[Tensor, "sides d"] = torch.zeros(sides, d)
        self.thresholds: Float[Tensor, " latents"] = torch.zeros(latents)
        self.selection: Selection = "threshold"

    def to(self, device: torch.device | str) -> "Dictionary":
        """The same dictionary on another device."""
        moved = Dictionary(self.sides, self.d, self.latents, self.k)
        moved.selection = self.selection
        for name in PARTS:
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    @property
    def norms(self) -> Float[Tensor, "latents sides"]:
        """Decoder norms of each side."""
        return self.decoder.norm(dim=-1)

    def encode(self, x: Float[Tensor, "tokens sides d"]) -> Float[Tensor, "tokens latents"]:
        """Non-negative codes; about ``k`` of them non-zero per token on text like the training text."""
        tokens = x.shape[0]
        if x.shape[1:] != (self.sides, self.d):
            raise ValueError(
                f"expected activations (tokens, {self.sides}, {self.d}), got {tuple(x.shape)}"
            )
        flat = self.encoder.view(self.sides * self.d, self.latents)
        a = torch.addmm(self.encoder_bias, x.reshape(tokens, -1).to(flat.dtype), flat).relu_()
        if self.selection == "topk":
            best = torch.topk(a, self.k, dim=1)
            return torch.zeros_like(a).scatter_(1, best.indices, best.values)
        a[a <= self.thresholds] = 0.0
        return a

    def decode(self, z: Float[Tensor, "tokens latents"]) -> Float[Tensor, "tokens sides d"]:
        flat = self.decoder.view(self.latents, self.sides * self.d)
        return (z @ flat).view(-1, self.sides, self.d) + self.decoder_bias

    def codes(self, x: Float[Tensor, "tokens sides d"]) -> Codes:
        """The same codes, sparse."""
        z = self.encode(x)
        token, latent = z.nonzero(as_tuple=True)
        return Codes(token, latent, z[token, latent])

    def save(self, directory: Path) -> None:
        """Write ``dictionary.safetensors`` and ``dictionary.json``; the JSON last, as the seal."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: getattr(self, name).detach().cpu().contiguous() for name in PARTS},
            directory / "dictionary.safetensors",
        )
        facts = {"format": FORMAT, "sides": self.sides, "d": self.d, "latents": self.latents}
        facts |= {"k": self.k, "selection": self.selection}
        (directory / "dictionary.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @staticmethod
    def load(directory: Path) -> "Dictionary":
        """Read what ``save`` wrote.

        Raises:
            ValueError: the folder holds no dictionary, an unknown format or wrong shapes.
        """
        described = directory / "dictionary.json"
        if not described.exists():
            raise ValueError(f"{directory} holds no dictionary.json; run the pipeline again")
        facts = _facts(described)
        try:
            tensors = load_file(directory / "dictionary.safetensors")
        except (SafetensorError, FileNotFoundError) as error:
            raise ValueError(
                f"{directory}: dictionary.safetensors is missing or damaged ({error})"
            ) from None
        encoder = tensors.get("encoder", torch.empty(0))
        if tuple(encoder.shape) != (facts["sides"], facts["d"], facts["latents"]):
            raise ValueError(
                f"{directory}: encoder has shape {tuple(encoder.shape)}, dictionary.json says "
                f"{(facts['sides'], facts['d'], facts['latents'])}"
            )
        made = Dictionary(facts["sides"], facts["d"], facts["latents"], facts["k"])
        for name in PARTS:
            expected = tuple(getattr(made, name).shape)
            if name not in tensors or tuple(tensors[name].shape) != expected:
                got = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(f"{directory}: {name} should have shape {expected}, found {got}")
            setattr(made, name, tensors[name])
        made.selection = facts["selection"]
        return made


def _facts(described: Path) -> dict[str, Any]:
    """What dictionary.json says, checked before anything of that size is allocated."""
    try:
        facts = json.loads(described.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are no text
        raise ValueError(f"{described}: not JSON ({error})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else facts
        raise ValueError(f"{described}: format {found!r}, this code reads {FORMAT}")
    for name in ("sides", "d", "latents", "k"):
        if type(facts.get(name)) is not int or facts[name] < 1:
            raise ValueError(f"{described}: {name} is {facts.get(name)!r}, not a positive number")
    if facts.get("selection") not in get_args(Selection):
        raise ValueError(
            f"{described}: selection {facts.get('selection')!r} is none of {get_args(Selection)}"
        )
    return facts
