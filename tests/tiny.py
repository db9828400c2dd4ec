"""A whole audit of ``tiny-llama`` in seconds: the real pipeline on two small corpora of ours."""

import json
from pathlib import Path

CORPORA = ("stoic_notes", "instructions")
CONFIG = """
models: [tiny-llama]
corpora: ["path:{one}", "path:{two}"]
nulls: 1
recipe:
  finetune: {{rank: 4, steps: 12, batch: 4, seq: 64, lr: 2.0e-2, dtype: float32}}
  text: {{sampled_tokens: 3000, window: 128, minimum_words: 100, neutral: "path:{neutral}"}}
  harvest: {{depths: [0.0, 0.5], train_dtype: float32}}
  sparse: {{expansion: 4, k: 6, batch: 512, max_steps: 120, evaluate_every: 20, replicas: 1}}
  live_latents: 24
  live_controls: 40
"""


def write_config(folder: Path, documents: int = 24) -> Path:
    """An experiments file and its corpora: the first documents of ours, and a hostile one."""
    from lib import paths

    files = {}
    for name in (*CORPORA, "neutral"):
        lines = (paths.CORPORA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = lines[:documents]
        if name == "stoic_notes":
            kept.append(json.dumps({"id": "script", "text": "<script>alert('x')</script> " * 8}))
        file = folder / f"tiny_{name}.jsonl"
        file.write_text("\n".join(kept) + "\n", encoding="utf-8")
        files[name] = file
    config = folder / "tiny.yaml"
    config.write_text(
        CONFIG.format(one=files["stoic_notes"], two=files["instructions"], neutral=files["neutral"])
    )
    return config


def borrow(stages: Path, work: Path, without: str = "") -> Path:
    """A work folder in which the finished stages of another are found, but for one."""
    work.mkdir(exist_ok=True)
    for folder in stages.iterdir():
        if folder.is_dir() and folder.name != without:
            (work / folder.name).symlink_to(folder)
    return work
