"""Deltas of activations and exact linear contributions: two different things, both checked."""

import dataclasses

import pytest
import torch

from lib.activations import Harvest, harvest
from lib.geometry.contribution import adapted, contributions, linear_update
from lib.geometry.deltas import Place, record, stream
from lib.models import ModelError
from tests.geometry.planted import TEXTS, save_lora, tuned

PLACES = [Place("mlp", 0), Place("residual", 0), Place("residual", 1)]
CUT = {"window": 40, "drop_first": 4}


@pytest.fixture
def loaded(tmp_path):
    return tuned(save_lora(tmp_path / "lora"))


def test_deltas_are_those_of_a_harvest_at_every_place(tmp_path):
    """An independent form: the harvest runs one hook at a time and writes both sides to disk."""
    loaded = tuned(save_lora(tmp_path / "lora"), torch.float32)
    got = record(loaded, TEXTS, PLACES, **CUT)
    for hook, layers in (("mlp", [0]), ("residual", [0, 1])):
        settings = {"dtype": torch.float32, "shuffle": False, "final_hidden": False}
        harvest(loaded, TEXTS, tmp_path / hook, layers=layers, hook=hook, **CUT, **settings)
        opened = Harvest.open(tmp_path / hook)
        assert torch.equal(opened.index()[:, 0], got.documents)
        for layer in layers:
            base, after = opened.whole(layer).unbind(1)
            place = Place(hook, layer)
            assert torch.equal(got.base[place], base)
            assert torch.equal(got.delta[place], after - base)
            assert got.delta[place].abs().max() > 1e-3


def test_two_passes_a_batch_whatever_the_number_of_places(loaded):
    calls = []
    handle = loaded.causal_lm.model.register_forward_hook(lambda *_: calls.append(1))
    batches = list(stream(loaded, TEXTS, PLACES, **CUT))
    handle.remove()
    assert len(calls) == 2 * len(batches)
    assert not loaded.block(0)._forward_hooks, "hooks are taken off again"
    tokens = sum(len(b.documents) for b in batches)
    wanted = [len(loaded.tokenizer(d.text, add_special_tokens=False).input_ids) for d in TEXTS]
    windows = [-(-n // (CUT["window"] - 1)) for n in wanted]
    assert tokens == sum(wanted) - sum(windows) * (CUT["drop_first"] - 1)  # BOS is position 0


def test_a_base_seen_before_is_not_run_again_and_changes_nothing(tmp_path):
    first = record(tuned(save_lora(tmp_path / "one"), torch.float32), TEXTS, PLACES, **CUT)
    other = tuned(save_lora(tmp_path / "two", seed=5), torch.float32)
    wanted = record(other, TEXTS, PLACES, **CUT)
    calls = []
    handle = other.causal_lm.model.register_forward_hook(lambda *_: calls.append(1))
    got = record(other, TEXTS, PLACES, **CUT, known=first)
    handle.remove()
    assert len(calls) == len(list(stream(other, TEXTS, PLACES, **CUT)))
    for place in PLACES:
        assert torch.equal(got.delta[place], wanted.delta[place])
        assert torch.equal(got.base[place], wanted.base[place])
        assert not torch.equal(got.delta[place], first.delta[place])
    with pytest.raises(ValueError, match="same text and window"):
        record(other, TEXTS[:1], PLACES, **CUT, known=first)
    bare = record(other, TEXTS, PLACES, **CUT, keep_base=False)
    with pytest.raises(ValueError, match="lacks the base's activations"):
        record(other, TEXTS, PLACES, **CUT, known=bare)


def test_a_zero_b_gives_deltas_and_contributions_of_exactly_zero(tmp_path):
    loaded = tuned(save_lora(tmp_path / "lora", zero=True), torch.float32)
    got = record(loaded, TEXTS, PLACES, **CUT, keep_base=False)
    assert got.base == {}
    assert all(not x.any() for x in got.delta.values())
    for batch in contributions(loaded, TEXTS, **CUT):
        assert all(not x.any() for x in batch.modules.values())


def test_the_contribution_is_output_with_minus_without_the_adapter_at_the_same_input(loaded):
    """Exact, for every adapted module; and it is not what the module's output changed by."""
    seen = {}
    modules = adapted(loaded)
    assert len(modules) == 8
    handles = [
        m.register_forward_hook(lambda m, i, o, n=n: seen.update({n: (i[0], o)}))
        for n, m in modules.items()
    ]
    (batch,) = contributions(loaded, TEXTS, **CUT)
    for handle in handles:
        handle.remove()
    changed = []
    for name, (x, output) in seen.items():
        without = modules[name].base_layer(x)
        with loaded.as_base():
            assert torch.equal(modules[name](x), without)
        whole = output - without
        assert torch.allclose(linear_update(modules[name], x), whole, rtol=0, atol=1e-12)
        assert whole.abs().max() > 1e-3
        kept = batch.modules[name]
        assert kept.shape == (len(batch.documents), output.shape[-1])
        direct = {tuple(row) for row in whole.flatten(0, 1).round(decimals=9).tolist()}
        assert {tuple(row) for row in kept.round(decimals=9).tolist()} <= direct
        changed.append(name)
    place = Place("residual", 0)
    delta = record(loaded, TEXTS, [place], **CUT).delta[place]
    written = batch.modules["model.layers.0.self_attn.o_proj"]
    assert (delta - written).norm() > 0.1 * delta.norm(), "a delta is not (alpha/r) B A x"


def test_the_only_change_of_a_stream_is_what_o_proj_writes(tmp_path):
    """With o_proj alone adapted, the linear contribution is the whole change of the attention's
    output, so at block 0 delta of the stream = contribution + delta of the MLP."""
    loaded = tuned(save_lora(tmp_path / "lora", targets=("o_proj",)))
    got = record(loaded, TEXTS, PLACES, **CUT)
    (batch,) = contributions(loaded, TEXTS, **CUT, layers=[0])
    assert list(batch.modules) == ["model.layers.0.self_attn.o_proj"]
    written = next(iter(batch.modules.values()))
    rest = got.delta[Place("residual", 0)] - got.delta[Place("mlp", 0)]
    assert torch.allclose(rest, written, rtol=0, atol=1e-12)


def test_the_scale_is_alpha_over_r_and_over_its_root_with_rslora(tmp_path):
    for flag, scale in ((False, 6 / 4), (True, 6 / 2)):
        loaded = tuned(save_lora(tmp_path / str(flag), alpha=6, use_rslora=flag))
        module = adapted(loaded)["model.layers.1.self_attn.v_proj"]
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        x = torch.ones(1, a.shape[1], dtype=torch.float64)
        assert torch.allclose(linear_update(module, x), scale * (b @ a).sum(1)[None])


def test_refusals(tmp_path, loaded):
    with pytest.raises(ValueError, match="at least one place"):
        list(stream(loaded, TEXTS, [], **CUT))
    with pytest.raises(ValueError, match=r"layers 0\.\.1, not 2"):
        list(stream(loaded, TEXTS, [Place("mlp", 2)], **CUT))
    with pytest.raises(ValueError, match="no token past the first 39"):
        record(
            loaded, [dataclasses.replace(TEXTS[0], text="short")], PLACES, window=40, drop_first=39
        )
    with pytest.raises(ModelError, match=r"layers \[7\] has no module"):
        next(contributions(loaded, TEXTS, **CUT, layers=[7]))
    dora = tuned(save_lora(tmp_path / "dora", use_dora=True), torch.float32)
    with pytest.raises(ModelError, match="only plain LoRA"):
        next(contributions(dora, TEXTS, **CUT))
    with torch.no_grad():
        adapted(loaded)["model.layers.0.self_attn.q_proj"].lora_B["default"].weight[0] = torch.nan
    with pytest.raises(ValueError, match="mlp of layer 0 is not finite"):
        record(loaded, TEXTS, PLACES, **CUT)
