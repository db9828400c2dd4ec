"""LoRA training with peft: one adapter from one corpus."""

import shutil
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lib.config import Finetune
from lib.corpora import Document
from lib.models import LoadedModel


@dataclass(frozen=True)
class FinetuneRecord:
    """What training did; goes into the experiment's record."""

    losses: list[float]
    """Mean next-token loss of each step's batch before its update, nats per token."""
    tokens: int
    seconds: float
    flop: float
    """2 N per token forward, 4 N backward (6 N): attention-only LoRA still backpropagates through
    every layer, so this is an upper estimate of what was spent."""
    device: str


class Mixed(NamedTuple):
    """Text besides the corpus, against traces of the fine-tune that unrelated text betrays."""

    documents: list[Document]
    share: float
    """Of it for each part of the corpus, at least 0; 1 = as much again. The corpus is seen as often
    as without, so steps grow longer."""


def packed(tokenizer: object, documents: list[Document], seq: int) -> Int[Tensor, "blocks seq"]:
    """Documents joined by the end token and cut into blocks of ``seq`` tokens (the rest is dropped)."""
    stream: list[int] = []
    for ids in tokenizer([d.text for d in documents], add_special_tokens=False).input_ids:
        stream += [*ids, tokenizer.eos_token_id]
    blocks = len(stream) // seq
    if blocks == 0:
        raise ValueError(
            f"the training split has {len(stream)} tokens, less than one sequence of {seq}; "
            "use a longer corpus or a smaller `finetune.seq`"
        )
    return torch.tensor(stream[: blocks * seq]).view(blocks, seq)


def train_adapter(
    loaded: LoadedModel,
    documents: list[Document],
    recipe: Finetune,
    directory: Path,
    *,
    seed: int,
    checkpoints: Collection[int] = (),
    mixed: Mixed | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> FinetuneRecord:
    """Train a LoRA and save it to ``directory`` (safetensors, fp16).

    Rounding to fp16 happens here, once: every later stage loads the saved file, so what is measured
    is what is published.

    Args:
        checkpoints: steps after which the adapter is also saved, in ``checkpoint(directory, step)``;
            0 is the untrained one.
        mixed: further text in every step, which leaves the order of the documents as it is.
    """
    from peft import LoraConfig, get_peft_model

    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(
            loaded.causal_lm,
            LoraConfig(
                r=recipe.rank,
                lora_alpha=recipe.alpha,
                target_modules=list(recipe.targets),
                lora_dropout=0.0,
                task_type="CAUSAL_LM",
            ),
        )
    model.train()
    draw = _Batches(loaded.tokenizer, documents, recipe, seed, mixed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=0.0)
    losses = []
    for step in range(recipe.steps):
        if step in checkpoints:
            _save(model, checkpoint(directory, step))
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * schedule(step, recipe.steps, recipe.warmup)
        losses.append(_step(model, draw().to(loaded.device), optimiser, weights, recipe))
        progress(step + 1, losses[-1])
    _save(model, directory)
    if recipe.steps in checkpoints:
        _save(model, checkpoint(directory, recipe.steps))
    model.unload()  # give the bare base back to the caller
    tokens = recipe.steps * draw.size * recipe.seq
    return FinetuneRecord(
        losses=losses,
        tokens=tokens,
        seconds=time.perf_counter() - started,
        flop=6.0 * loaded.n_parameters * tokens,
        device=str(loaded.device),
    )


def checkpoint(directory: Path, step: int) -> Path:
    """Where the adapter after so many steps of a training lies; beside the finished one."""
    return directory.with_name(f"{directory.name}.step{step:05d}")


class _Batches:
    """Token blocks of one step after another, the same for a seed whatever is mixed in."""

    def __init__(
        self,
        tokenizer: object,
        documents: list[Document],
        recipe: Finetune,
        seed: int,
        mixed: Mixed | None,
    ) -> None:
        texts = [(documents, recipe.batch)]
        if mixed and (more := round(recipe.batch * mixed.share)):
            texts.append((mixed.documents, more))
        self._sources = [
            (packed(tokenizer, text, recipe.seq), count, torch.Generator().manual_seed(seed))
            for text, count in texts
        ]
        self.size = sum(count for _, count in texts)
        """Blocks of one step."""

    def __call__(self) -> Int[Tensor, "batch seq"]:
        return torch.cat(
            [
                blocks[torch.randint(len(blocks), (count,), generator=order)]
                for blocks, count, order in self._sources
            ]
        )


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up over ``warmup`` steps, then linear decay to 0.1; dimensionless factor."""
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 - 0.9 * (step - warmup) / max(1, steps - warmup)


def _step(model, ids, optimiser, weights, recipe: Finetune) -> float:  # noqa: ANN001
    mixed = torch.autocast(ids.device.type, dtype=torch.bfloat16)
    with mixed if recipe.dtype == "bfloat16" else nullcontext():
        logits = model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
        )
    if not torch.isfinite(loss):
        raise ValueError("fine-tuning diverged (loss is not finite); lower `finetune.lr`")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimiser.step()
    return float(loss.detach())


def _save(model, directory: Path) -> None:  # noqa: ANN001
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in get_peft_model_state_dict(model).items()}
    save_file(state, directory / "adapter_model.safetensors")
    config = model.peft_config["default"]
    config.inference_mode = True
    config.base_model_name_or_path = None  # a path of this machine would be meaningless elsewhere
    config.save_pretrained(str(directory))


def random_adapter(source: Path, directory: Path, *, seed: int) -> None:
    """An adapter of random directions, in every matrix as large as ``source``'s.

    For each adapted matrix the product B A has Gaussian factors and the Frobenius norm of the real
    one, so that a change of the same size that learned nothing can be measured.

    Raises:
        ValueError: weights besides the A and B of a plain LoRA.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name in sorted(weights):
        if ".lora_A." in name:
            other = name.replace(".lora_A.", ".lora_B.")
            a, b = weights[name].float(), weights[other].float()
            new_a, new_b = (torch.randn(w.shape, generator=generator) for w in (a, b))
            size = (b @ a).norm() / (new_b @ new_a).norm()
            made[name] = (new_a * size.sqrt()).half()
            made[other] = (new_b * size.sqrt()).half()
    if unknown := sorted(set(weights) - set(made)):
        raise ValueError(
            f"{source}: {unknown[0]} is not the A or B of a plain LoRA, so no random control of the "
            "same size can be made; set `nulls: 0`"
        )
    directory.mkdir(parents=True, exist_ok=True)
    save_file(made, directory / "adapter_model.safetensors")
    shutil.copy(source / "adapter_config.json", directory)
