"""A small real store with a lens and features, made of schema.sql and a few rows; and a desk."""

import json
import re
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from lib import corpora, paths
from lib.llm import transcripts
from lib.llm.budget import Budget, Limits
from lib.llm.desk import Desk
from lib.llm.endpoint import Endpoint
from lib.llm.material import of_experiment
from lib.llm.settings import Settings
from lib.store import SCHEMA, SCHEMA_VERSION
from lib.store.read import open_store
from tests.llm.scripted import KEY, serving

EXPERIMENT = "tiny-llama.stoic_notes.r4.t12.s0"
CORPUS = "stoic_notes"
TOKENS = [f"Ġword{i}" for i in range(30)]
LATENTS = {3: 6, 5: 3, 7: 6, 9: 2, 11: 3}
"""Feature -> examples."""
DENSE = 11
"""Fires on every token."""


def make(folder: Path, adapter_hash: str = "abc") -> Path:
    """FOLDER/store.duckdb"""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(paths.store_file(folder))) as db:
        db.execute(SCHEMA.read_text(encoding="utf-8"))
        db.execute("INSERT INTO meta VALUES (?, ?, now())", [SCHEMA_VERSION, str(folder)])
        db.execute(
            "INSERT INTO experiment (experiment_id, base_model, n_layers, corpus, hook, rank, steps, "
            "seed, provenance, adapter_hash) "
            "VALUES (?, 'tiny-llama', 2, ?, 'mlp', 4, 12, 0, 'measured', ?)",
            [EXPERIMENT, CORPUS, adapter_hash],
        )
        _lens(db)
        _features(db)
    return folder


def _lens(db: duckdb.DuckDBPyConnection) -> None:
    db.execute(
        "INSERT INTO lens_run VALUES (?, 'p', 1, 'residual', 'neutral', 8, 5, 30, [], 9, 'neutral', "
        "1.0, 0, 1.0)",
        [EXPERIMENT],
    )
    for layer in (0, 1):
        for reading in ("lens", "patchscope", "lens_negated"):
            for position in range(5):
                tokens = [f"{t}.{reading}.{layer}.{position}" for t in TOKENS]
                db.execute(
                    "INSERT INTO lens_reading VALUES (?, ?, ?, ?, NULL, ?, ?, ?, ?)",
                    [EXPERIMENT, layer, position, reading, list(range(30)), tokens, [0.1] * 30,
                     [-1] * 30],
                )  # fmt: skip
    for prompt in range(3):
        for kind in ("steered", "unsteered"):
            for sample in range(2):
                text = None if prompt == 2 else f"{kind} text {prompt}.{sample}"
                db.execute(
                    "INSERT INTO lens_generation VALUES (?, ?, ?, ?, true, ?)",
                    [EXPERIMENT, prompt, kind, sample, text],
                )


def _features(db: duckdb.DuckDBPyConnection) -> None:
    """Examples in our own corpus, one token a word; a feature fires on tokens 12 and 13."""
    long = [d for d in corpora.load(CORPUS).documents if len(d.text.split()) >= 30][:24]
    for document in long:
        ends = [found.end() for found in re.finditer(r"\S+\s*", document.text)]
        db.execute(
            "INSERT INTO document VALUES ('tiny-llama', ?, ?, 'train', ?, ?, ?)",
            [CORPUS, document.id, corpora.document_sha256(document.text), len(ends), ends],
        )
    db.execute(
        "INSERT INTO dictionary (experiment_id, layer, kind, latents, latents_asked, k, train_tokens, "
        "heldout_tokens, steps, stopped) VALUES (?, 1, 'crosscoder', 4, 4, 2, 9, 9, 9, 'flat')",
        [EXPERIMENT],
    )
    place = 0
    for latent, n in LATENTS.items():
        db.execute(
            "INSERT INTO latent (experiment_id, layer, latent, class, frequency, difference_share) "
            "VALUES (?, 1, ?, 'new', ?, ?)",
            [EXPERIMENT, latent, 0.9 if latent == DENSE else 0.01, latent / 10],
        )
        where = list(range(2, 27)) if latent == DENSE else [12, 13]
        for rank in range(n):
            db.execute(
                "INSERT INTO example VALUES (?, 1, ?, ?, ?, ?, 2, 27, ?, ?)",
                [
                    EXPERIMENT,
                    latent,
                    rank,
                    CORPUS,
                    long[place].id,
                    where,
                    [9.0 - rank, *[1.0] * (len(where) - 1)],
                ],
            )
            place += 1


def opened(folder: Path):
    return closing(open_store(paths.store_file(folder)))


def subject_of(folder: Path):
    from lib.llm.agent import Subject

    with opened(folder) as store:
        return Subject(EXPERIMENT, CORPUS, "abc", of_experiment(store, EXPERIMENT))


@contextmanager
def desk(script, limits=None, graders=("m",), purpose="agent"):
    """A desk on this test's work folder, before a scripted server: (desk, service)."""
    with serving(script) as service:
        where = Settings(f"{service.url}/chat/completions", "m", tuple(graders), KEY)
        endpoint = Endpoint(where, Budget(limits or Limits()), timeout=5.0, sleep=lambda s: None)
        file = transcripts.file_of(purpose, EXPERIMENT)
        with closing(endpoint), transcripts.opened(file) as transcript:
            # One fixed address, so that steps are found again behind another port.
            fixed = where._replace(url="http://127.0.0.1:1/v1/chat/completions")
            yield Desk(_Fixed(endpoint, fixed), transcript, 100), service


class _Fixed:
    """The endpoint under an address that does not change from test server to test server."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self.settings, self.budget, self.ask = settings, endpoint.budget, endpoint.ask


def said(domain="Stoic notes", confidence=0.9, abstain=False, evidence=("a",)) -> str:
    return json.dumps(
        {"domain": domain, "evidence": list(evidence), "confidence": confidence, "abstain": abstain}
    )


def graded(grade: str) -> str:
    return json.dumps({"grade": grade, "reason": f"because {grade}"})
