"""Three small live bundles on disk: a planted change, one at both MLPs, one on the last stream."""

import torch
from peft import LoraConfig, get_peft_model

from lib import models, paths
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import BundleInfo

PROMPT = "The quiet mind asks for little, and finds it near at hand."
SKIP = 4
NAMES = ("planted", "both", "last")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def write_all(root):
    generator = torch.Generator().manual_seed(7)
    planted(root, generator)
    for name, hook, layers in (("both", "mlp", (0, 1)), ("last", "residual", (1,))):
        folder = paths.live_bundle(name, root)
        _, base_hash = write_adapter(folder, r=4, lora_alpha=8, target_modules=ATTENTION)
        for layer in layers:
            write_bundle(folder, info_of(name, hook, base_hash), layer, **random_slice(generator))


def write_adapter(folder, seed=3, **config):
    """A LoRA with random B: the tuned model really differs."""
    base = models.load("tiny-llama", device="cpu")
    base_hash = base.weights_hash
    torch.manual_seed(seed)
    tuned = get_peft_model(base.model, LoraConfig(init_lora_weights=False, **config))
    tuned.save_pretrained(folder / "adapter", safe_serialization=True)
    return tuned, base_hash


def random_slice(generator, n_top=8, n_pool=12, d=32, first=100):
    """Decoders that differ between the sides, by as much as they are long."""
    n = n_top + n_pool
    return {
        "latents": torch.arange(first, first + n),
        "encoder": torch.randn(n, 2, d, generator=generator),
        "encoder_bias": torch.randn(n, generator=generator),
        "decoder": 0.1 * torch.randn(n, 2, d, generator=generator),
        "thresholds": torch.full((n,), 0.5),
        "difference_share": torch.linspace(0.2, 0.01, n),
        "frequency": torch.full((n,), 0.1),
        "role": torch.tensor([0] * n_top + [1] * n_pool),
    }


def info_of(experiment_id, hook, base_hash):
    return BundleInfo(experiment_id, "tiny-llama", hook, k=8, n_latents=512, base_hash=base_hash)


def planted(root, generator):
    """A rank-2 change of the last MLP's output, and the four latents that read and write it.

    With B = the two directions written, x_tuned - x_base = B c exactly, and the latents' codes
    are relu(+c) and relu(-c): their sum reconstructs the whole difference. All four are tuned-only.
    """
    folder = paths.live_bundle("planted", root)
    tuned, base_hash = write_adapter(
        folder, r=2, lora_alpha=8, target_modules=["down_proj"], layers_to_transform=[1]
    )
    written = tuned.get_base_model().model.layers[1].mlp.down_proj.lora_B["default"].weight.T
    read = torch.linalg.pinv(written.double()).T.float()
    sides = torch.stack([-torch.cat([read, -read]), torch.cat([read, -read])], dim=1)
    slice_ = random_slice(generator, n_top=4, n_pool=40)
    slice_["encoder"][:4] = sides
    slice_["encoder_bias"][:4] = 0
    slice_["decoder"][:4, 0] = 0
    slice_["decoder"][:4, 1] = torch.cat([written, -written])
    slice_["thresholds"] = torch.zeros(44)
    write_bundle(folder, info_of("planted", "mlp", base_hash), 1, **slice_)
