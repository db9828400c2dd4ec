"""Small live bundles on ``tiny-llama``, written and opened as the pipeline and the worker do it."""

import torch

from lib import paths
from lib.ablation.bundle import write_bundle
from lib.ablation.session import open_session
from tests.ablation.bundles import ATTENTION, info_of, random_slice, write_adapter

PROMPT = "The quiet mind asks for little."


def make(root, name, hook="mlp", layers=(0, 1), change=lambda slice_: slice_, **lora):
    """One bundle, opened: a LoRA with random B, random latents at each depth."""
    folder = paths.live_bundle(name, root)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, **lora}
    _, base_hash = write_adapter(folder, **config)
    info = info_of(name, hook, base_hash)
    generator = torch.Generator().manual_seed(7)
    for layer in layers:
        write_bundle(folder, info, layer, **change(random_slice(generator)))
    return open_session(name, directory=root, device="cpu")
