"""Small live bundles on ``tiny-llama``, written and opened as the pipeline and the worker do it."""

import torch
from peft import LoraConfig, get_peft_model

from lib import models, paths
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import BundleInfo
from lib.ablation.session import open_session

PROMPT = "The quiet mind asks for little."
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
N_TOP, N_POOL, D = 8, 12, 32


def random_slice(generator):
    """Decoders that differ between the sides, by as much as they are long."""
    n = N_TOP + N_POOL
    return {
        "latents": torch.arange(100, 100 + n),
        "encoder": torch.randn(n, 2, D, generator=generator),
        "encoder_bias": torch.randn(n, generator=generator),
        "decoder": 0.1 * torch.randn(n, 2, D, generator=generator),
        "thresholds": torch.full((n,), 0.5),
        "difference_share": torch.linspace(0.2, 0.01, n),
        "frequency": torch.full((n,), 0.1),
        "role": torch.tensor([0] * N_TOP + [1] * N_POOL),
    }


def make(root, name, hook="mlp", layers=(0, 1), change=lambda slice_: slice_, **lora):
    """One bundle, opened: a LoRA with random B, random latents at each depth."""
    folder = paths.live_bundle(name, root)
    base = models.load("tiny-llama", device="cpu")
    base_hash = base.weights_hash
    config = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, **lora}
    torch.manual_seed(3)
    tuned = get_peft_model(base.model, LoraConfig(init_lora_weights=False, **config))
    tuned.save_pretrained(folder / "adapter", safe_serialization=True)
    info = BundleInfo(name, "tiny-llama", hook, k=8, n_latents=512, base_hash=base_hash)
    generator = torch.Generator().manual_seed(7)
    for layer in layers:
        write_bundle(folder, info, layer, **change(random_slice(generator)))
    return open_session(name, directory=root, device="cpu")
