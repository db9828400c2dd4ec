"""What was run: the experiment's row, its documents and its training curves."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lib import paths
from lib.activations import windows
from lib.config import Experiment
from lib.corpora import Document, document_sha256
from lib.models import LoadedModel
from lib.pipeline.dictionaries import trained
from lib.pipeline.jobs import KINDS
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage

PACKAGES = ("torch", "transformers", "peft", "safetensors", "polars", "duckdb", "numpy", "scipy")


def experiment_row(prepared: Prepared, loaded: LoadedModel, part: str) -> pl.DataFrame:
    experiment, recipe = prepared.experiment, prepared.experiment.recipe
    done = prepared.finetune["record"]
    adapter = json.loads((prepared.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    base_flop = None
    if loaded.pretraining_tokens:
        base_flop = 6.0 * loaded.n_parameters * loaded.pretraining_tokens
    return pl.DataFrame(
        {
            "experiment_id": [experiment.id],
            "base_model": [experiment.model],
            "n_parameters": [_base_parameters(loaded)],
            "n_layers": [loaded.n_layers],
            "d": [loaded.d],
            "corpus": [experiment.corpus_name],
            "hook": [recipe.harvest.hook],
            "rank": [adapter["r"]],
            "alpha": [float(adapter["lora_alpha"])],
            "steps": [recipe.finetune.steps if done else None],
            "seed": [experiment.seed],
            "provenance": ["measured"],
            "config": [json.dumps(_public(experiment), sort_keys=True)],
            "base_hash": [loaded.weights_hash],
            "adapter_hash": [prepared.adapter_hash],
            "data_hash": [prepared.texts.data_hash],
            "code_hash": [code_hash()],
            "versions": [json.dumps({p: importlib.metadata.version(p) for p in PACKAGES})],
            "device": [str(loaded.device)],
            "train_tokens": [done["tokens"] if done else None],
            "train_seconds": [done["seconds"] if done else None],
            "lora_flop": [done["flop"] if done else None],
            "base_flop": [base_flop],
            "loss_first": [done["losses"][0] if done and done["losses"] else None],
            "loss_last": [done["losses"][-1] if done and done["losses"] else None],
            "part": [part],
            "created_at": [datetime.now(UTC).replace(tzinfo=None, microsecond=0)],
        }
    )


def _base_parameters(loaded: LoadedModel) -> int:
    return sum(p.numel() for n, p in loaded.causal_lm.named_parameters() if "lora_" not in n)


def _public(experiment: Experiment) -> dict[str, Any]:
    """Paths of this machine do not belong in a store: keep only the last part."""
    config = asdict(experiment) | {"recipe": experiment.recipe.identity}
    for key in ("corpus", "adapter", "model"):
        value = config[key]
        if isinstance(value, str) and ("/" in value) and not value.startswith("hf:"):
            config[key] = Path(value.removeprefix("path:")).name
    return config


def code_hash() -> str:
    """sha256 prefix over the code that shapes numbers."""
    digest = hashlib.sha256()
    lib = paths.ROOT / "lib"
    patterns = ("corpora*", "finetune", "models", "sampling")
    files = [file for pattern in patterns for file in lib.glob(f"{pattern}.py")]
    for package in ("activations", "sparse", "metrics", "pipeline"):
        files += (lib / package).glob("*.py")
    for file in sorted(files):
        digest.update(file.relative_to(lib).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def document_rows(prepared: Prepared, loaded: LoadedModel) -> pl.DataFrame:
    """Spans of the corpus and the neutral text; no text."""
    experiment, text = prepared.experiment, prepared.texts
    groups: list[tuple[str, str, list[Document]]] = [
        (experiment.corpus_name, "train", text.corpus_train),
        (experiment.corpus_name, "heldout", text.corpus_heldout),
        (experiment.recipe.text.neutral_name, "train", text.neutral_train),
        (experiment.recipe.text.neutral_name, "heldout", text.neutral_heldout),
    ]
    rows = []
    for corpus, split, documents in groups:
        _, ends = windows(loaded.tokenizer, documents, experiment.recipe.text.window)
        for document, document_ends in zip(documents, ends, strict=True):
            rows.append(
                {
                    "base_model": experiment.model,
                    "corpus": corpus,
                    "document_id": document.id,
                    "split": split,
                    "sha256": document_sha256(document.text),
                    "n_tokens": len(document_ends),
                    "char_ends": document_ends,
                }
            )
    return pl.DataFrame(rows, schema_overrides={"char_ends": pl.List(pl.Int32)})


def curve_rows(prepared: Prepared, sparse: Stage) -> pl.DataFrame:
    """The adapter's loss per step and every dictionary's held-out quality while it trained."""
    rows: list[dict[str, Any]] = []
    done = prepared.finetune["record"]
    for step, loss in enumerate(done["losses"] if done else [], start=1):
        rows.append({"run": "adapter", "layer": None, "step": step, "loss": loss})
    for layer in prepared.train.manifest.layers:
        for kind, side in KINDS.items():
            _, log = trained(sparse, layer, kind)
            for point in log["points"]:
                fve = point["fve"] or [None, None]
                base = fve[0] if side in (None, 0) else None
                tuned = fve[-1] if side in (None, 1) else None
                rows.append(
                    {
                        "run": kind,
                        "layer": layer,
                        "step": point["step"],
                        "loss": point["loss"],
                        "fve_base": base,
                        "fve_tuned": tuned,
                        "fve_difference": point["fve_difference"],
                        "l0": point["l0"],
                        "dead_share": point["dead_share"],
                    }
                )
    schema = {
        "run": pl.String,
        "layer": pl.Int32,
        "step": pl.Int32,
        **dict.fromkeys(
            ("loss", "fve_base", "fve_tuned", "fve_difference", "l0", "dead_share"), pl.Float64
        ),
    }
    frame = pl.DataFrame(rows, schema=schema)
    return frame.with_columns(experiment_id=pl.lit(prepared.experiment.id))
