"""Oracles 3 and 4 on the random two-layer Llama: what a LoRA of no size, or of little, must give."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lib import models
from lib.activations import Recorder
from lib.lens.difference import MeanDifference
from lib.metrics.cka import debiased_cka
from lib.metrics.displacement import displacement
from lib.metrics.divergence import kl_per_token, streamed
from lib.metrics.reconstruction import cross_ratio
from lib.metrics.regimes import classify

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


class Tuned:
    """A LoRA around tiny-llama; ``zero`` leaves B at 0, as before the first step."""

    def __init__(self, dtype: torch.dtype, zero: bool) -> None:
        self.base = models.load("tiny-llama", dtype=dtype, device="cpu")
        torch.manual_seed(3)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION, init_lora_weights=zero)
        self.model = get_peft_model(self.base.model, config).to(dtype).eval()
        self.ids = torch.randint(2, 258, (8, 64), generator=torch.Generator().manual_seed(0))

    def scale(self, size: float) -> None:
        for module in self.model.modules():
            if hasattr(module, "lora_B"):
                module.scaling["default"] = size

    @torch.no_grad()
    def run(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states and the last MLP's outputs, tokens pooled."""
        with Recorder(self.base, [1], "mlp") as recorder:
            final = self.model.get_base_model().model(self.ids).last_hidden_state
            return final.flatten(0, 1), recorder.seen[1].flatten(0, 1)

    def run_base(self) -> tuple[torch.Tensor, torch.Tensor]:
        with self.model.disable_adapter():
            return self.run()


@pytest.fixture
def small() -> Iterator[Tuned]:
    yield Tuned(torch.float64, zero=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_with_zero_b_changes_exactly_nothing(dtype):
    """Oracle 3: bitwise equal, so KL 0, agreement 1, CKA 1, displacement 0, dbar 0, near-unchanged
    (ratio, decoders and latents: test_pipeline)."""
    lora = Tuned(dtype, zero=True)
    (p, x_tuned), (q, x_base) = lora.run(), lora.run_base()
    assert torch.equal(p, q) and torch.equal(x_tuned, x_base)
    weight = lora.base.unembedding
    out = streamed(p, q, weight, weight)
    assert out.kl.max() == out.reverse_kl.max() == out.js.max() == 0
    assert out.agreement.min() == 1
    assert debiased_cka(x_base, x_tuned) == 1
    moved = displacement(x_base, x_tuned, torch.arange(len(x_base)) // 64)
    assert (moved.relative, moved.offset_share) == (0, 0)
    offset = MeanDifference(64, x_base.shape[1])
    offset.update(x_base.view(8, 64, -1), x_tuned.view(8, 64, -1))
    assert not offset.value().mean.any()
    hat = 0.9 * x_base.double()  # whatever a dictionary says, equal sides get equal dictionaries
    ratio = cross_ratio(x_tuned.double(), hat, hat).ratio
    assert ratio == 1
    assert classify(ratio, float(out.kl.mean()), 55.4, 0.587) == "near-unchanged"


def test_merged_weights_are_the_adapter_up_to_rounding():
    """Oracle 3: far below any KL that is reported, though not bitwise equal."""
    lora = Tuned(torch.float32, zero=False)
    weight = lora.base.unembedding.clone()
    (p, _), (q, _) = lora.run(), lora.run_base()
    assert float(streamed(p, q, weight, weight).kl.mean()) > 1e-3  # the adapter does something
    merged = lora.model.merge_and_unload()
    with torch.no_grad():
        m = merged.model(lora.ids).last_hidden_state.flatten(0, 1)
    assert float(streamed(m, p, weight, weight).kl.mean()) < 1e-9


def test_scaling_a_lora_down_has_slopes_two_one_and_two(small):
    """Oracle 4: KL and 1 - CKA are of second order in the scale, relative displacement of first."""
    q, x_base = small.run_base()
    groups, weight = torch.arange(len(q)) // 64, small.base.unembedding
    sizes, found = [1e-3, 1e-2], []
    for size in sizes:
        small.scale(size)
        p, x_tuned = small.run()
        kl = kl_per_token(p @ weight.T, q @ weight.T).mean()
        moved = displacement(x_base, x_tuned, groups, draws=2)
        found.append([float(kl), moved.relative, 1 - debiased_cka(x_base, x_tuned)])
    slopes = np.diff(np.log10(found), axis=0)[0]
    assert slopes == pytest.approx([2, 1, 2], abs=0.05)
