"""Fine-tunes of the random two-layer Llama whose difference is known exactly.

A LoRA on one block's down projection with a bias and no weights adds its bias to the block's output:
oracle 14, with an adapter that can be switched off and scaled. With weights and no bias, the difference
depends on the token that it is made from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from peft import LoraConfig, get_peft_model

from lib import models
from lib.corpora import Document
from lib.lens.probe import Probed, differences, first_tokens

D, LAYER, POSITIONS = 32, 0, 5
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.ABCDEFGHIJ"


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vector(seed: int = 4) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(D, seed=seed), dim=0)


def _lora(layer: int) -> tuple[models.LoadedModel, torch.nn.Module]:
    base = models.load("tiny-llama", dtype=torch.float64, device="cpu")
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["down_proj"],
        layers_to_transform=[layer],
        lora_bias=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(base.model, config).double().eval()
    return replace(base, model=model), base.block(layer).mlp.down_proj


def constant(v: torch.Tensor, layer: int = LAYER) -> models.LoadedModel:
    """Block ``layer`` puts out v more than the base does, whatever it reads."""
    loaded, module = _lora(layer)
    with torch.no_grad():
        module.lora_B["default"].weight.zero_()
        module.lora_B["default"].bias.copy_(v / module.scaling["default"])
    return loaded


def dependent(size: float = 1.0, layer: int = LAYER) -> models.LoadedModel:
    """Block ``layer`` puts out another vector for every token: random weights, no bias."""
    loaded, module = _lora(layer)
    with torch.no_grad():
        module.lora_B["default"].weight.copy_(size * normal(D, 8, seed=7))
        module.lora_B["default"].bias.zero_()
    return loaded


def documents(count: int, length: int, seed: int = 0) -> list[Document]:
    drawn = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(LETTERS), (count, length), generator=drawn).tolist()
    return [Document(str(i), "".join(LETTERS[k] for k in row)) for i, row in enumerate(rows)]


def texts(loaded: models.LoadedModel, count: int = 40, tokens: int = 40, seed: int = 0):
    return first_tokens(loaded.tokenizer, documents(count, tokens, seed), tokens)


def probe(loaded: models.LoadedModel, ids: torch.Tensor, **how) -> Probed:
    return differences(loaded, ids, positions=POSITIONS, **{"keep": [LAYER], **how})


class Gated(torch.nn.Module):
    """Block ``LAYER`` puts out h (1 + gate(h)): the stream itself, by a factor that depends on it."""

    def __init__(self, base: models.LoadedModel) -> None:
        super().__init__()
        self.inner, self.on = base.model, True
        self.reader = 4 * normal(D, seed=9)
        base.block(LAYER).register_forward_hook(self._gate)

    def _gate(self, module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * (1 + torch.sigmoid(output @ self.reader))[..., None] if self.on else output

    def get_base_model(self) -> torch.nn.Module:
        return self.inner

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        self.on = False
        yield
        self.on = True


def gated() -> models.LoadedModel:
    base = models.load("tiny-llama", dtype=torch.float64, device="cpu")
    return replace(base, model=Gated(base))
