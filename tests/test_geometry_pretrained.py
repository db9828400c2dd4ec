"""A dictionary of another program in the geometry stage: formats, places, and what is refused."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from lib import config, models
from lib.config import ConfigError, Geometry
from lib.geometry.deltas import Place
from lib.pipeline.geometry import _inputs, geometry_stage
from lib.pipeline.geometry_pretrained import outside
from lib.pipeline.preflight import refuse_early
from lib.pipeline.prepare import prepare
from lib.pipeline.progress import Progress
from lib.sparse import Dictionary
from tests.tiny import borrow, write_config

D, LATENTS = 32, 48


@cache
def model() -> models.LoadedModel:
    return models.load("tiny-llama")


def weights(d: int = D) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(7)
    rows = torch.nn.functional.normalize(torch.randn(LATENTS, d, generator=draw), dim=1)
    return {
        "W_enc": rows.T.contiguous(), "b_enc": torch.zeros(LATENTS), "W_dec": rows,
        "b_dec": torch.zeros(d), "threshold": torch.full((LATENTS,), 0.4),
    }  # fmt: skip


def saelens(folder: Path, hook: str | None = "blocks.1.hook_resid_post", d: int = D) -> Path:
    folder.mkdir(parents=True)
    facts = {"architecture": "jumprelu", "d_in": d, "d_sae": LATENTS, "metadata": {}}
    facts |= {"apply_b_dec_to_input": False}
    if hook:
        facts["metadata"] = {"hook_name": hook}
    (folder / "cfg.json").write_text(json.dumps(facts))
    save_file(weights(d), folder / "sae_weights.safetensors")
    return folder


def scope(folder: Path, path: str = "gemma-scope-2b-pt-res/layer_1/width_48/average_l0_5") -> Path:
    home = folder / path
    home.mkdir(parents=True)
    np.savez(home / "params.npz", **{name: t.numpy() for name, t in weights().items()})
    return home


def ours(folder: Path) -> Path:
    made = Dictionary(1, D, LATENTS, 5)
    held = weights()
    made.encoder, made.decoder = held["W_enc"][None].clone(), held["W_dec"][:, None].clone()
    made.thresholds = held["threshold"]
    made.save(folder)
    return folder


def asked(path: Path, **more: object) -> Geometry:
    return Geometry(ranks=(2,), pretrained=str(path), **more)


@pytest.mark.parametrize(
    ("hook", "place"),
    [
        ("blocks.1.hook_resid_post", Place("residual", 1)),
        ("blocks.1.hook_resid_pre", Place("residual", 0)),
        ("blocks.0.hook_mlp_out", Place("mlp", 0)),
        ("model.layers.1.mlp", Place("mlp", 1)),
        ("model.layers.0", Place("residual", 0)),
    ],
)
def test_saelens_says_its_place(hook, place, tmp_path):
    found = outside(asked(saelens(tmp_path / "sae", hook)), model())
    assert found is not None and found.place == place
    assert found.dictionary.latents == LATENTS


def test_gemma_scope_says_its_place_by_its_folders(tmp_path):
    home = scope(tmp_path)
    for source in (home, home / "params.npz"):
        found = outside(asked(source), model())
        assert found is not None and found.place == Place("residual", 1)
    mlp = scope(tmp_path, "gemma-scope-2b-pt-mlp/layer_0/width_48/average_l0_5")
    found = outside(asked(mlp), model())
    assert found.place == Place("mlp", 0)
    assert found.name == "layer_0/width_48/average_l0_5"


def test_one_function_has_one_key_whatever_its_format(tmp_path):
    places = {"pretrained_place": "residual.1"}
    one = outside(asked(ours(tmp_path / "ours"), **places), model())
    two = outside(asked(scope(tmp_path)), model())
    assert one.inputs == two.inputs, "both have k 5, and the same five tensors"
    other = outside(asked(tmp_path / "ours", pretrained_place="residual.0"), model())
    assert other.inputs != one.inputs
    assert str(tmp_path) not in json.dumps(one.inputs)


def test_nothing_is_read_where_nothing_is_named():
    assert outside(Geometry(ranks=(2,)), model()) is None


def _wide(folder: Path) -> Geometry:
    return asked(saelens(folder / "a", d=40))


def _deep(folder: Path) -> Geometry:
    return asked(saelens(folder / "a", "blocks.2.hook_resid_post"))


def _attention(folder: Path) -> Geometry:
    return asked(saelens(folder / "a", "blocks.1.attn.hook_z"))


def _before(folder: Path) -> Geometry:
    return asked(saelens(folder / "a", "blocks.0.hook_resid_pre"))


def _unsaid(folder: Path) -> Geometry:
    return asked(ours(folder / "a"))


def _no_hook(folder: Path) -> Geometry:
    return asked(scope(folder, "sae/layer_1/average_l0_5"))


def _contradicted(folder: Path) -> Geometry:
    return asked(saelens(folder / "a"), pretrained_place="mlp.1")


def _not_asked(folder: Path) -> Geometry:
    return asked(saelens(folder / "a"), hooks=("mlp",))


def _scope_attention(folder: Path) -> Geometry:
    return asked(scope(folder, "gemma-scope-2b-pt-att/layer_1/average_l0_5"))


def _nowhere(folder: Path) -> Geometry:
    return asked(folder / "none")


def _crosscoder(folder: Path) -> Geometry:
    Dictionary(2, D, 4, 1).save(folder / "a")
    return asked(folder / "a", pretrained_place="mlp.1")


WRONG = [
    (_wide, "1 side of width 40, tiny-llama activations of width 32"),
    (_deep, "belongs to layer 2, tiny-llama has layers 0..1"),
    (_attention, "hook_name 'blocks.1.attn.hook_z' is neither"),
    (_before, "hook_name 'blocks.0.hook_resid_pre' is neither"),
    (_unsaid, "does not say its hook and layer; add `pretrained_place: residual.N`"),
    (_no_hook, "does not say its hook; add"),
    (_contradicted, "says hook residual, layer 1; leave the key out"),
    (_not_asked, "belongs to hook residual, `hooks` has mlp; add it"),
    (_scope_attention, "a Gemma Scope dictionary of 'att'"),
    (_nowhere, "does not exist"),
    (_crosscoder, "2 sides of width 32"),
]


def test_a_missing_file_is_refused_before_the_first_stage(tmp_path):
    file = write_config(tmp_path)
    wrong = "recipe:\n  geometry: {ranks: [2], pretrained: nowhere.npz}"
    file.write_text(file.read_text().replace("recipe:", wrong, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe\.geometry\.pretrained.*nowhere\.npz"):
        refuse_early(config.load(file))


@pytest.mark.parametrize(("made", "said"), WRONG, ids=[made.__name__ for made, _ in WRONG])
def test_what_does_not_fit_is_refused_with_what_was_found(made, said, tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.geometry\.pretrained") as problem:
        outside(made(tmp_path), model())
    assert said in str(problem.value)


@pytest.mark.parametrize(
    "wrong",
    [{"pretrained": "x", "pretrained_place": "attention.1"}, {"pretrained_place": "mlp.1"},
     {"pretrained": "x", "pretrained_place": "mlp"}],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"residual\.N or mlp\.N"):
        Geometry(**wrong)


def test_a_single_hook_completes_what_the_folder_leaves_open(tmp_path):
    home = scope(tmp_path, "sae/layer_1/average_l0_5")
    assert outside(asked(home, hooks=("mlp",)), model()).place == Place("mlp", 1)


def test_the_stage_compares_the_given_dictionary_at_its_place_alone(
    tiny_config, tiny_work, tmp_path, monkeypatch
):
    monkeypatch.setenv("INSIDEOUT_WORK", str(borrow(tiny_work, tmp_path / "w")))
    experiment = config.load(tiny_config)[0]
    recipe = replace(asked(scope(tmp_path)), max_steps=20, subspace=3)
    named = replace(experiment, recipe=replace(experiment.recipe, geometry=recipe))
    prepared = prepare(named, Progress(named.id, quiet=True))
    stage = geometry_stage(prepared, Progress(named.id, quiet=True))
    assert stage is not None and not (stage.directory / "base").exists()
    tables = {f.stem: pl.read_parquet(f) for f in stage.directory.glob("*.parquet")}
    assert tables["geometry_place"].select("hook", "layer").rows() == [("residual", 1)]
    (called,) = tables["geometry_place"]["pretrained"]
    given = outside(recipe, model())
    assert given is not None and called == f"{given.name} {given.digest}"
    against = tables["geometry_score"].group_by("against").len().sort("against").rows()
    assert against == [("adapter_seeds", 4), ("base_activations", 1), ("pretrained", 4)]
    cosine = tables["geometry_score"].filter(score="signed_max_cosine", against="pretrained")
    assert cosine["seed"].to_list() == [0]
    span = tables["geometry_fit"].filter(fit="span")
    assert span["dimensions"].to_list() == [D]  # 48 random rows span all 32

    without = replace(named, recipe=replace(named.recipe, geometry=replace(recipe, pretrained="")))
    assert _inputs(prepared, None) == _inputs(replace(prepared, experiment=without), None)
    assert not {"pretrained", "pretrained_place"} & set(_inputs(prepared, None)["recipe"])
