"""What adapted matrices add and write: by hand, by scale, and where there is nothing to sum."""

import pytest
import torch
from torch import nn

from lib.geometry.contribution import adapted
from lib.geometry.deltas import Place, record, token_batches
from lib.geometry.written import measure, writes_straight
from tests.geometry.planted import TEXTS, normal, save_lora, tuned

CUT = {"window": 40, "drop_first": 4}


def test_what_a_matrix_adds_is_relative_to_what_it_gives_without(tmp_path):
    """An independent form: inputs kept by a hook, both products written out."""
    loaded = tuned(save_lora(tmp_path / "lora", alpha=6))
    name = "model.layers.1.self_attn.v_proj"
    module = adapted(loaded)[name]
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    top = bottom = 0.0
    for batch in token_batches(loaded, TEXTS, **CUT):
        seen = []
        handle = module.register_forward_hook(
            lambda _m, inputs, _o, seen=seen: seen.append(inputs[0])
        )
        loaded.causal_lm.model(batch.ids, attention_mask=batch.mask, use_cache=False)
        handle.remove()
        x = seen[0][batch.keep]
        top += float((6 / 4 * x @ (b @ a).T).square().sum())
        bottom += float((x @ module.base_layer.weight.T).square().sum())
    found = next(one for one in measure(loaded, TEXTS, **CUT).added if one.module == name)
    assert (found.layer, found.kind) == (1, "v_proj")
    assert found.relative.value == pytest.approx((top / bottom) ** 0.5, rel=1e-9)
    assert found.relative.low <= found.relative.value <= found.relative.high


def test_chance_is_what_random_updates_of_equal_norm_add(tmp_path):
    loaded = tuned(save_lora(tmp_path / "lora", rank=4))
    name = "model.layers.0.self_attn.q_proj"
    module = adapted(loaded)[name]
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight

    def first():
        return next(one for one in measure(loaded, TEXTS, **CUT).added if one.module == name)

    size, chance = float((b @ a).norm()), first().chance
    squares = []
    for seed in range(24):
        with torch.no_grad():
            a.copy_(normal(*a.shape, seed=2 * seed))
            b.copy_(normal(*b.shape, seed=2 * seed + 1))
            b.mul_(size / (b @ a).norm())
        squares.append(first().relative.value ** 2)
    spread = torch.tensor(squares).std() / 24**0.5
    assert torch.tensor(squares).mean() == pytest.approx(chance**2, abs=3 * float(spread))


def test_twice_the_scale_adds_twice_as_much_where_the_input_is_the_same(tmp_path):
    """Inputs of q, k and v in block 0 know no adapter."""
    once, twice = (
        {one.module: one.relative.value for one in measure(tuned(folder), TEXTS, **CUT).added}
        for folder in (save_lora(tmp_path / "a", alpha=4), save_lora(tmp_path / "b", alpha=8))
    )
    assert len(once) == 8
    for kind in "qkv":
        name = f"model.layers.0.self_attn.{kind}_proj"
        assert twice[name] == pytest.approx(2 * once[name], rel=1e-9)


def test_what_is_not_written_at_block_0_is_what_the_mlp_made_of_it(tmp_path):
    """With o_proj alone adapted, delta of the stream = direct write + delta of the MLP."""
    loaded = tuned(save_lora(tmp_path / "lora", targets=("o_proj",)))
    delta = record(loaded, TEXTS, [Place("residual", 0), Place("mlp", 0)], **CUT).delta
    whole, carried = delta[Place("residual", 0)].double(), delta[Place("mlp", 0)].double()
    first = measure(loaded, TEXTS, **CUT).written[0]
    share = 1 - float(carried.square().sum() / whole.square().sum())
    assert first.direct.value == pytest.approx(share, rel=1e-6)
    size = ((whole - carried).square().sum() / whole.square().sum()).sqrt()
    assert first.size.value == pytest.approx(float(size), rel=1e-6)
    assert first.moved < first.direct.value


def test_all_is_written_directly_where_nothing_reads_it(tmp_path):
    """o_proj and down_proj of the last block, MLP of that block silenced for what it reads."""
    loaded = tuned(save_lora(tmp_path / "lora", targets=("o_proj",), layers_to_transform=[1]))
    with torch.no_grad():
        loaded.mlp(1).down_proj.weight.zero_()
    (last,) = measure(loaded, TEXTS, **CUT).written  # nothing has changed after block 0
    assert last.layer == 1
    assert last.direct.value == pytest.approx(1, abs=1e-9)
    assert last.size.value == pytest.approx(1, abs=1e-9)


def test_writes_that_only_enter_heads_are_none(tmp_path):
    loaded = tuned(save_lora(tmp_path / "lora", targets=("q_proj", "v_proj")))
    for one in measure(loaded, TEXTS, **CUT).written:
        assert (one.direct.value, one.size.value) == (0, 0)


def test_a_norm_behind_the_writers_leaves_nothing_to_sum(tmp_path):
    loaded = tuned(save_lora(tmp_path / "lora"), torch.float32)
    batch = next(token_batches(loaded, TEXTS, **CUT))
    assert writes_straight(loaded, batch)
    block = loaded.block(1)
    attention = block.self_attn
    halved = attention.forward

    def forward(*args, **kwargs):
        first, *rest = halved(*args, **kwargs)
        return (nn.functional.layer_norm(first, first.shape[-1:]), *rest)

    attention.forward = forward
    assert not writes_straight(loaded, batch)
    found = measure(loaded, TEXTS, **CUT)
    assert found.written == [] and len(found.added) == 8
    attention.forward = halved


def test_refusals(tmp_path):
    zero = tuned(save_lora(tmp_path / "zero", zero=True), torch.float32)
    with pytest.raises(ValueError, match="does not change anywhere; is every B"):
        measure(zero, TEXTS, **CUT)
    with pytest.raises(ValueError, match="without tokens"):
        measure(zero, TEXTS, window=40, drop_first=40)
