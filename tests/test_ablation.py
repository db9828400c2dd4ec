"""A planted change, an oracle in raw PyTorch hooks, and a worker that may be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import duckdb
import pytest
import streamlit as st
import torch
from peft import LoraConfig, get_peft_model
from streamlit.testing.v1 import AppTest

from lib import ablation, models, paths
from lib.ablation import AblationError, AblationRequest, AblationResult, catalogue
from lib.ablation.arithmetic import (
    DictionarySlice,
    clamp,
    clamp_edit,
    code_clamp,
    code_clamp_edit,
    codes,
    own_codes,
    rescaled,
    share_removed,
    share_reversed,
)
from lib.ablation.bundle import load_slice, write_bundle
from lib.ablation.catalogue import BundleInfo
from lib.ablation.client import AblationClient
from lib.ablation.conditions import run_conditions
from lib.ablation.session import open_session
from lib.figures.ablation import divergence_from_base, percent
from lib.metrics.divergence import kl_per_token
from lib.sparse import Dictionary
from lib.store import SCHEMA_VERSION
from lib.ui import ablation_result

PROMPT = "The quiet mind asks for little, and finds it near at hand."
SKIP = 4
PATIENCE = 300
"""Seconds; a worker starts in about 5, but on a crowded machine it may take a minute."""
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


# ---------------------------------------------------------------- bundles on disk


def write_adapter(folder, **config):
    """A LoRA with random B: the tuned model really differs."""
    base = models.load("tiny-llama", device="cpu")
    base_hash = base.weights_hash
    torch.manual_seed(3)
    tuned = get_peft_model(base.model, LoraConfig(init_lora_weights=False, **config))
    tuned.save_pretrained(folder / "adapter", safe_serialization=True)
    return tuned, base_hash


def random_slice(generator, n_top=8, n_pool=12, d=32):
    n = n_top + n_pool
    return {
        "latents": torch.arange(100, 100 + n),
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


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three live bundles: a planted change, one at both MLPs, one on the last residual stream."""
    root = tmp_path_factory.mktemp("precomputed")
    generator = torch.Generator().manual_seed(7)
    planted(root, generator)
    for name, hook, layers in (("both", "mlp", (0, 1)), ("last", "residual", (1,))):
        folder = paths.live_bundle(name, root)
        _, base_hash = write_adapter(folder, r=4, lora_alpha=8, target_modules=ATTENTION)
        for layer in layers:
            write_bundle(folder, info_of(name, hook, base_hash), layer, **random_slice(generator))
    return root


def planted(root, generator):
    """A rank-2 change of the last MLP's output, and the four latents that read and write it.

    With B = the two directions written, x_tuned - x_base = B c exactly, and the latents' codes
    are relu(+c) and relu(-c): their sum reconstructs the whole difference.
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


@pytest.fixture(scope="module")
def sessions(root):
    """Opened from disk as the worker does it."""
    names = ("planted", "both", "last")
    return {name: open_session(name, directory=root, device="cpu") for name in names}


@pytest.fixture(scope="module")
def run(sessions):
    def run(name, **fields):
        request = AblationRequest(experiment_id=name, **{"prompt": PROMPT, **fields})
        return ablation.run(request, sessions[name])

    return run


def prompt_ids(loaded):
    ids = loaded.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    return torch.tensor([[loaded.tokenizer.bos_token_id, *ids]])


# ---------------------------------------------------------------- arithmetic by hand


def by_hand(threshold):
    """Two latents in two dimensions."""
    return DictionarySlice(
        latents=torch.tensor([5, 9]),
        encoder=torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]]),
        encoder_bias=torch.tensor([0.0, -1.0]),
        decoder=torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]]),
        thresholds=torch.tensor([4.0, threshold]),
    )


def test_codes_fire_above_each_latents_own_threshold():
    x_base, x_tuned = torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 3.0]])
    # a_5 = 1*2 + 1*3 = 5, above 4; a_9 = 1 + 3 - 1 = 3
    assert codes(x_tuned, x_base, by_hand(2.9)).tolist() == [[5.0, 3.0]]
    assert codes(x_tuned, x_base, by_hand(3.0)).tolist() == [[5.0, 0.0]]


def test_codes_are_those_of_the_dictionary_the_slice_was_cut_from():
    torch.manual_seed(0)
    whole = Dictionary(sides=2, d=6, latents=40, k=4)
    whole.encoder, whole.encoder_bias = torch.randn(2, 6, 40), torch.randn(40)
    whole.decoder, whole.thresholds = torch.randn(40, 2, 6), torch.rand(40)
    ids = torch.tensor([31, 4, 17])
    part = DictionarySlice(
        ids,
        whole.encoder[:, :, ids].permute(2, 0, 1),
        whole.encoder_bias[ids],
        whole.decoder[ids],
        whole.thresholds[ids],
    )
    x = torch.randn(50, 2, 6)
    expected = whole.encode(x)[:, ids]
    assert torch.allclose(codes(x[:, 1], x[:, 0], part), expected, atol=1e-5)
    assert 0 < (expected > 0).float().mean() < 1


def test_clamp_moves_by_code_times_the_decoder_difference():
    x_base, x_tuned = torch.tensor([[2.0, 9.0]]), torch.tensor([[1.0, 3.0]])
    # latent 9: a = 3, d_tuned - d_base = (-1, 0): x + strength * 3 * (1, 0)
    moved = clamp(x_tuned, x_base, by_hand(0.0), (9,), 0.5)
    assert moved.tolist() == [[2.5, 3.0]]
    assert torch.equal(clamp(x_tuned, x_base, by_hand(0.0), ()), x_tuned)


def test_equal_decoders_give_no_edit():
    same = by_hand(0.0)._replace(decoder=torch.ones(2, 2, 2))
    assert not clamp_edit(torch.ones(3, 2), torch.ones(3, 2), same).any()


def one_sided():
    """An SAE of two latents in three dimensions, whose third it neither reads nor writes."""
    return DictionarySlice(
        latents=torch.tensor([5, 9]),
        encoder=torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]]),
        encoder_bias=torch.tensor([0.0, -1.0]),
        decoder=torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.5, 0.0]]]),
        thresholds=torch.tensor([0.0, 2.0]),
    )


def test_code_clamp_by_hand():
    """I2: each latent gets the base's activation; what the dictionary does not hold stays."""
    x_base, x_tuned = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[3.0, 4.0, 8.0]])
    sae = one_sided()
    # a_5: 1 -> 3. a_9: 2*1 - 1 = 1, not above 2, so 0 -> 2*4 - 1 = 7
    assert own_codes(x_base, sae).tolist() == [[1.0, 0.0]]
    assert own_codes(x_tuned, sae).tolist() == [[3.0, 7.0]]
    # minus (3 - 1) (1, 0, 0) and (7 - 0) (0, 0.5, 0)
    assert code_clamp(x_tuned, x_base, sae, (5, 9)).tolist() == [[1.0, 0.5, 8.0]]
    assert code_clamp(x_tuned, x_base, sae, (9,)).tolist() == [[3.0, 0.5, 8.0]]
    assert code_clamp(x_tuned, x_base, sae, (5,), 0.25).tolist() == [[2.5, 4.0, 8.0]]


def test_code_clamp_of_equal_codes_edits_nothing():
    """I2 with a(x_tuned) = a(x_base), though the activations differ: exactly no edit."""
    x_base = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 1.4, 3.0], [2.0, 3.0, 1.0]])
    x_tuned = torch.tensor([[2.0, -9.0, 5.0], [-7.0, 0.1, -3.0], [2.0, 3.0, 9.0]])
    sae = one_sided()
    assert torch.equal(own_codes(x_tuned, sae), own_codes(x_base, sae))
    assert own_codes(x_base, sae).any()
    assert not code_clamp_edit(x_tuned, x_base, sae).any()
    assert torch.equal(code_clamp(x_tuned, x_base, sae, (5, 9)), x_tuned)


def test_code_clamp_of_no_strength_or_no_latents_edits_nothing():
    x_base, x_tuned = torch.zeros(1, 3), torch.tensor([[3.0, 4.0, 8.0]])
    assert code_clamp_edit(x_tuned, x_base, one_sided()).any()
    assert torch.equal(code_clamp(x_tuned, x_base, one_sided(), (5, 9), 0.0), x_tuned)
    assert torch.equal(code_clamp(x_tuned, x_base, one_sided(), ()), x_tuned)


def test_code_clamp_undoes_a_reweighting_that_the_pair_clamp_cannot_see():
    """One shared feature, 40 % stronger after tuning: equal decoders, so I1 has nothing to move."""
    torch.manual_seed(0)
    feature = torch.nn.functional.normalize(torch.randn(6), dim=0)
    strength, rest = torch.rand(20, 1) + 1, torch.randn(20, 6)
    rest -= (rest @ feature)[:, None] * feature
    x_base, x_tuned = rest + strength * feature, rest + 1.4 * strength * feature
    both = feature.expand(1, 2, 6)
    shared = DictionarySlice(
        torch.tensor([3]), both / 2, torch.zeros(1), both.clone(), torch.tensor([0.5])
    )
    assert torch.equal(clamp(x_tuned, x_base, shared, (3,)), x_tuned)
    assert torch.allclose(code_clamp(x_tuned, x_base, shared, (3,)), x_base, atol=1e-6)
    half = code_clamp(x_tuned, x_base, shared, (3,), 0.5)
    assert share_removed(x_tuned, half, x_base) == pytest.approx(0.75)
    sae = shared._replace(encoder=feature.expand(1, 1, 6), decoder=feature.expand(1, 1, 6))
    assert torch.allclose(code_clamp(x_tuned, x_base, sae, (3,)), x_base, atol=1e-6)


def test_rescaled_keeps_directions_and_takes_norms_even_where_nothing_fires():
    edit = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    out = rescaled(edit, torch.tensor([10.0, 2.0, 0.0]), fallback=torch.tensor([0.0, 5.0]))
    assert torch.allclose(out, torch.tensor([[6.0, 8.0], [0.0, 2.0], [0.0, 0.0]]))


def test_shares_by_hand():
    assert share_reversed(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0])) == 0.75
    assert share_reversed(torch.tensor([5.0]), torch.tensor([4.0])) == -0.25
    assert share_reversed(torch.tensor([1.0]), torch.tensor([0.0])) is None
    base, before = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    assert share_removed(before, torch.tensor([[1.0, 0.0]]), base) == 0.75
    assert share_removed(base, before, base) is None


# ---------------------------------------------------------------- the five runs


def test_planted_latents_reverse_the_change_and_the_control_does_not(run):
    result = run("planted", top=4)
    assert result.tuned.kl > 0.05
    assert result.clamped.share_reversed > 0.99  # fp16 slices: not exactly 1
    assert result.ceiling.share_reversed == pytest.approx(1, abs=1e-6)
    assert result.over_ceiling == pytest.approx(result.clamped.share_reversed, abs=1e-6)
    assert result.clamped.edits[0].removed > 0.999
    draws = [run("planted", top=4, seed=seed).control.share_reversed for seed in range(5)]
    assert max(draws) <= 0
    assert len(set(draws)) == 5


def test_half_the_set_reverses_part(run):
    part = run("planted", top=2).clamped
    assert 0.05 < part.edits[0].removed < 0.95
    assert part.share_reversed < 0.95


def test_base_activations_after_the_last_block_reverse_everything(run):
    result = run("last")
    assert result.ceiling.share_reversed == 1.0
    assert result.ceiling.kl == 0.0


@pytest.mark.parametrize("name", ["planted", "both", "last"])
@pytest.mark.parametrize("nothing", [{"strength": 0.0}, {"top": 0}])
def test_no_edit_reverses_exactly_nothing(run, name, nothing):
    result = run(name, **nothing)
    assert result.tuned.share_reversed == result.clamped.share_reversed == 0.0
    assert result.control.share_reversed == 0.0
    assert result.clamped.kl_per_token == result.tuned.kl_per_token
    assert all(edit.norm == 0 for edit in result.clamped.edits)


def test_control_has_the_treated_norm_at_every_depth_and_its_own_latents(run):
    result = run("both", top=6, picked=((1, 110),), strength=0.7)
    for clamped, control in zip(result.clamped.edits, result.control.edits, strict=True):
        assert control.norm == pytest.approx(clamped.norm, rel=1e-4)
        assert clamped.norm > 0.01
        assert 0 < clamped.fires <= 1
    for chosen, drawn in zip(result.selected, result.drawn, strict=True):
        assert len(chosen.latents) == len(drawn.latents)
        assert not set(chosen.latents) & set(drawn.latents)
    assert 110 in result.selected[1].latents


def test_skipped_tokens_are_neither_edited_nor_scored(run):
    result = run("both", top=8)
    assert result.clamped.kl_per_token[:SKIP] == (None,) * SKIP
    scored = result.clamped.kl_per_token[SKIP:]
    assert result.clamped.kl == pytest.approx(sum(scored) / len(scored), rel=1e-5)
    assert "".join(result.tokens[1:]) == PROMPT
    assert len(result.tokens) == len(result.clamped.kl_per_token) == len(PROMPT) + 1


def test_next_tokens_are_the_ten_most_probable_and_base_is_the_base(run, sessions):
    result = run("both")
    session = sessions["both"]
    ids = prompt_ids(session.loaded)
    with torch.no_grad(), session.loaded.as_base():
        probability = session.loaded.model(ids).logits[0, -1].softmax(-1)
    best = probability.topk(10).values.tolist()
    assert [t.probability for t in result.base.next_tokens] == pytest.approx(best, abs=1e-6)
    assert result.base.kl == 0.0


# ---------------------------------------------------------------- raw PyTorch hooks as the oracle


def by_hooks(session, edits, *, base=False):
    """Activations and logits through plain forward hooks; edits: layer -> f(x) on (seq, d)."""
    loaded = session.loaded
    seen, handles = {}, []
    for layer, edit in edits.items():

        def hook(module, args, output, layer=layer, edit=edit):
            seen[layer] = output[0].clone()
            changed = output.clone()
            changed[0, SKIP:] = edit(output[0])[SKIP:]
            return changed

        handles.append(loaded.hooked(layer, session.info.hook).register_forward_hook(hook))
    ids = prompt_ids(loaded)
    with torch.no_grad():
        if base:
            with loaded.model.disable_adapter():
                logits = loaded.model(ids).logits[0]
        else:
            logits = loaded.model(ids).logits[0]
    for handle in handles:
        handle.remove()
    return seen, logits


def slow_clamp(x, x_base, part, ids, strength):
    """Token by token, latent by latent."""
    out = x.clone()
    rows = [part.latents.tolist().index(i) for i in ids]
    for t in range(len(x)):
        for j in rows:
            a = x_base[t] @ part.encoder[j, 0] + x[t] @ part.encoder[j, 1] + part.encoder_bias[j]
            if a > 0 and a > part.thresholds[j]:
                out[t] -= strength * a * (part.decoder[j, 1] - part.decoder[j, 0])
    return out


@pytest.mark.parametrize("name", ["planted", "both", "last"])
def test_every_condition_agrees_with_raw_hooks(run, sessions, name):
    session = sessions[name]
    result = run(name, top=4, strength=0.8)
    same = {s.layer: lambda x: x for s in result.selected}
    base, base_logits = by_hooks(session, same, base=True)
    _, tuned_logits = by_hooks(session, same)
    _, ceiling_logits = by_hooks(session, {k: lambda x, k=k: base[k] for k in same})
    treat = {
        s.layer: partial(
            lambda x, s: slow_clamp(x, base[s.layer], session.slices[s.layer], s.latents, 0.8), s=s
        )
        for s in result.selected
    }
    _, clamped_logits = by_hooks(session, treat)
    for condition, logits in (
        (result.tuned, tuned_logits),
        (result.ceiling, ceiling_logits),
        (result.clamped, clamped_logits),
    ):
        expected = kl_per_token(logits[SKIP:], base_logits[SKIP:])
        got = torch.tensor(condition.kl_per_token[SKIP:])
        assert torch.allclose(got, expected.float(), atol=1e-5), condition.name
    assert result.tuned.kl > 1e-3


# ---------------------------------------------------------------- on disk, and back


def test_bundle_round_trip(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1))
    info = info_of("x", "mlp", "abc")
    write_bundle(tmp_path, info, 7, **slice_)
    write_bundle(tmp_path, info, 3, **slice_)
    assert catalogue.read_info(tmp_path) == replace(info, layers=(3, 7))
    back = load_slice(tmp_path, 7, torch.device("cpu"))
    assert torch.equal(back.latents, slice_["latents"])
    assert torch.allclose(back.decoder, slice_["decoder"], rtol=1e-3, atol=1e-6)
    assert torch.equal(back.thresholds, slice_["thresholds"])
    offered = catalogue.offered(tmp_path, 7)
    assert offered.top == list(range(100, 108))
    assert offered.pool == list(range(108, 120))
    write_bundle(tmp_path, replace(info, base_hash="other"), 5, **slice_)  # measured anew
    assert catalogue.read_info(tmp_path).layers == (5,)


def test_bundle_refuses_what_it_cannot_hold(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1))
    info = info_of("x", "mlp", "")
    with pytest.raises(ValueError, match="fp16"):
        write_bundle(tmp_path, info, 0, **{**slice_, "decoder": 1e6 * slice_["decoder"]})
    with pytest.raises(ValueError, match="twice"):
        write_bundle(tmp_path, info, 0, **{**slice_, "latents": torch.zeros(20, dtype=int)})
    one_side = {name: slice_[name][:, :1] for name in ("encoder", "decoder")}
    with pytest.raises(ValueError, match="2 sides"):
        write_bundle(tmp_path, info, 0, **{**slice_, **one_side})


def test_request_and_result_survive_json(run):
    result = run("both", picked=((0, 101),), layers=(0,))
    text = json.dumps(result.to_json(), allow_nan=False)
    assert AblationResult.from_json(json.loads(text)) == result


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"prompt": "x" * 300}, "300 tokens, the limit is 256"),
        ({"prompt": "abc"}, "3 tokens; .* at least 4"),
        ({"layers": (0, 9)}, r"depth \[9\]; offered: \[0, 1\]"),
        ({"picked": ((1, 4),)}, r"latents \[4\] at layer 1 .* carries 20 .*100, 101"),
        ({"picked": ((1, 101),), "layers": (0,)}, "outside the chosen depths"),
        ({"top": 8, "picked": tuple((0, j) for j in range(108, 115))}, "at most 5"),
        ({"strength": 1.5}, r"0\.\.1"),
    ],
)
def test_requests_that_cannot_run_say_why(run, fields, message):
    with pytest.raises(AblationError, match=message):
        run("both", **fields)


def broken(root, tmp_path, change):
    """A copy of the bundle ``both`` with something changed."""
    import shutil

    shutil.copytree(paths.live_bundle("both", root), paths.live_bundle("both", tmp_path))
    change(paths.live_bundle("both", tmp_path))
    with pytest.raises(ValueError) as caught:
        open_session("both", directory=tmp_path, device="cpu")
    return str(caught.value)


def change_info(**fields):
    def change(bundle):
        data = json.loads((bundle / "bundle.json").read_text())
        (bundle / "bundle.json").write_text(json.dumps({**data, **fields}))

    return change


def test_parts_that_do_not_belong_together(root, tmp_path):
    told = broken(root, tmp_path / "a", change_info(base_hash="0123456789abcdef"))
    assert "0123456789abcdef" in told
    assert "python -m lib run" in told
    told = broken(root, tmp_path / "b", change_info(adapter_hash="feed"))
    assert "trained with feed" in told
    told = broken(root, tmp_path / "c", change_info(version=99))
    assert "format 99" in told
    told = broken(root, tmp_path / "d", lambda b: (b / "layer_01.safetensors").unlink())
    assert "layer_01.safetensors is missing" in told
    told = broken(root, tmp_path / "e", lambda b: (b / "adapter").rename(b / "gone"))
    assert "adapter is missing" in told
    told = broken(root, tmp_path / "f", change_info(base_model="no-such-model"))
    assert "no model 'no-such-model'" in told


def test_adapter_of_another_model(root, tmp_path):
    def other_width(bundle):
        from safetensors.torch import load_file, save_file

        file = bundle / "adapter" / "adapter_model.safetensors"
        save_file({k: torch.cat([v, v], -1) for k, v in load_file(file).items()}, file)

    assert "made for another model" in broken(root, tmp_path, other_width)


def test_missing_bundle_names_what_is_offered(root):
    with pytest.raises(AblationError, match=r"'nothing' .*offered: both, last, planted"):
        open_session("nothing", directory=root)
    with pytest.raises(AblationError, match="there is none yet"):
        open_session("../../etc", directory=root / "empty")


# ---------------------------------------------------------------- the queue, with a stand-in worker

STAND_IN = """
import json, sys, time
def say(**m): print(json.dumps(m), flush=True)
say(event="ready")
result = json.load(open(sys.argv[1]))
for line in sys.stdin:
    m = json.loads(line)
    if m["op"] != "run": continue
    prompt = m["request"]["prompt"]
    say(event="stage", ticket=m["ticket"], stage="clamped")
    if prompt == "die":
        print("a last word", file=sys.stderr, flush=True)
        sys.exit(3)
    time.sleep(0.15)
    say(event="done", ticket=m["ticket"], result={**result, "request": m["request"]})
"""


@pytest.fixture
def stand_in(run, root, tmp_path, monkeypatch):
    """A client whose worker answers in 0.15 s without a model, and dies when told to."""
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps(run("both").to_json()))
    client = AblationClient([sys.executable, "-c", STAND_IN, str(answer)])
    yield client
    client.close()


def ask(prompt, **fields):
    return AblationRequest(experiment_id="both", prompt=prompt, **fields)


def wait(client, ticket, seconds=PATIENCE, until=lambda p: p.finished):
    end = time.monotonic() + seconds
    while not until(client.progress(ticket)):
        assert time.monotonic() < end, client.progress(ticket)
        time.sleep(0.01)
    return client.progress(ticket)


def test_queue_keeps_order_and_answers_each_its_own(stand_in):
    tickets = [stand_in.submit(ask(f"prompt {i}")) for i in range(4)]
    assert stand_in.progress(tickets[3]).words == "queued, 3 ahead"
    assert stand_in.progress(tickets[0]).words == "starting the model worker"
    ends = [wait(stand_in, ticket) for ticket in tickets]
    assert [p.result.request.prompt for p in ends] == [f"prompt {i}" for i in range(4)]
    assert ends[0].seconds < ends[3].seconds


def test_many_threads_share_one_client(stand_in):
    from concurrent.futures import ThreadPoolExecutor

    def one(i):
        return wait(stand_in, stand_in.submit(ask(f"thread {i}"))).result.request.prompt

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [f"thread {i}" for i in range(8)]


def test_identical_request_is_answered_from_memory(stand_in):
    first = wait(stand_in, stand_in.submit(ask("again")))
    second = stand_in.progress(stand_in.submit(ask("again")))
    assert second.phase == "done"
    assert second.result is first.result
    other = stand_in.submit(ask("again", seed=1))
    assert stand_in.progress(other).phase != "done"


def test_dead_worker_loses_only_the_running_request(stand_in):
    lost, kept = stand_in.submit(ask("die")), stand_in.submit(ask("later"))
    ended = wait(stand_in, lost)
    assert ended.phase == "failed"
    assert "exit code 3" in ended.message
    assert "a last word" in ended.message
    assert wait(stand_in, kept).phase == "done"


def test_queued_request_is_cancelled_at_once(stand_in):
    running, queued, last = (stand_in.submit(ask(p)) for p in ("a", "b", "c"))
    stand_in.cancel(queued)
    assert stand_in.progress(queued).phase == "cancelled"
    assert stand_in.progress(last).ahead == 1
    assert wait(stand_in, running).phase == wait(stand_in, last).phase == "done"


def test_unknown_ticket_and_unknown_experiment(stand_in):
    assert "run it again" in stand_in.progress("gone").message
    with pytest.raises(AblationError, match="no live bundle"):
        stand_in.submit(AblationRequest(experiment_id="nothing", prompt="x"))


# ---------------------------------------------------------------- the real worker


@pytest.fixture(scope="module")
def client(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
        client = AblationClient()
        yield client
        client.close()


def same_numbers(a, b):
    return a.clamped == b.clamped and a.control == b.control and a.tokens == b.tokens


def test_worker_answers_as_this_process_does_and_survives_bad_requests(client, run):
    good, bad, after = (
        client.submit(ask(PROMPT)),
        client.submit(ask("x" * 300)),
        client.submit(AblationRequest(experiment_id="planted", prompt=PROMPT, top=4)),
    )
    assert same_numbers(wait(client, good).result, run("both"))
    failed = wait(client, bad)
    assert (failed.phase, failed.result) == ("failed", None)
    assert "limit is 256" in failed.words
    assert same_numbers(wait(client, after).result, run("planted", top=4))


def test_killed_worker_is_replaced(client, run):
    wait(client, client.submit(ask(PROMPT)))
    killed = client.worker_id
    lost = client.submit(ask(PROMPT, seed=11))
    os.kill(killed, signal.SIGKILL)
    kept = client.submit(ask(PROMPT, seed=12))
    ended = wait(client, lost)
    if ended.phase == "failed":  # it may have been quicker than the signal
        assert "exit code -9" in ended.message
    assert same_numbers(wait(client, kept).result, run("both", seed=12))
    assert client.worker_id != killed


def test_worker_cancels_between_stages_and_ends_with_its_parent(root):
    worker = subprocess.Popen(
        [sys.executable, "-m", "lib.ablation.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=paths.ROOT,
        env={**os.environ, "INSIDEOUT_PRECOMPUTED": str(root)},
        text=True,
    )
    run = {"op": "run", "ticket": "t", "request": ask(PROMPT).to_json()}
    for message in (run, {"op": "cancel", "ticket": "t"}):
        worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline()) == {"event": "ready"}
    while (heard := json.loads(worker.stdout.readline()))["event"] == "stage":
        assert heard["stage"] == "loading the model"
    assert heard == {"event": "cancelled", "ticket": "t"}
    worker.stdin.close()
    assert worker.wait(timeout=PATIENCE) == 0
    worker.stdout.close()


def test_running_request_is_cancelled_at_the_next_stage(sessions):
    stages = []

    class Stop(BaseException):
        pass

    def report(stage):
        stages.append(stage)
        if stage == "clamped":
            raise Stop

    with pytest.raises(Stop):
        run_conditions(ask(PROMPT), sessions["both"], report)
    assert stages == ["base", "tuned", "clamped"]
    again = ablation.run(ask(PROMPT), sessions["both"])
    assert again.tuned.kl > 0  # the model is whole and the lock is free


# ---------------------------------------------------------------- the page


@pytest.fixture
def page(root, client, monkeypatch):
    """The page on a small real store, with the real worker of this module."""
    store = paths.store_file(root)
    if not store.exists():
        fill_store(store)
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr("lib.ui.ablation.client", lambda: client)
    page = AppTest.from_file("../pages/ablation.py", default_timeout=PATIENCE)
    page.query_params["experiment"] = "both"
    return page


def fill_store(file):
    with duckdb.connect(str(file)) as store:
        store.execute((paths.ROOT / "lib" / "store" / "schema.sql").read_text())
        store.execute(
            "INSERT INTO meta VALUES (?, 'tiny', TIMESTAMP '2026-01-01')", [SCHEMA_VERSION]
        )
        for name in ("both", "planted", "bare"):
            store.execute(
                """INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, hook,
                rank, steps, seed, provenance)
                VALUES (?, 'tiny-llama', 2, 32, 'stoic_notes', 'mlp', 4, 50, 0, 'measured')""",
                [name],
            )
        store.execute(
            """INSERT INTO dictionary (experiment_id, layer, kind, latents, latents_asked, k,
            train_tokens, heldout_tokens, steps, stopped, fve_difference)
            VALUES ('both', 1, 'crosscoder', 512, 512, 8, 5000, 1000, 10, 'flat', 0.41)"""
        )


def settled(page, client):
    """The page after its request has been answered."""
    if "ablation:ticket" in page.session_state:  # else the answer was quicker than the page
        wait(client, page.session_state["ablation:ticket"])
    return page.run()


def run_button(page):
    return next(button for button in page.button if button.label == "Run")


def everything(page):
    return " ".join(m.value for m in [*page.markdown, *page.caption, *page.info, *page.error])


def test_page_runs_a_clamp_and_tells_what_it_undoes(page, client, run):
    page.query_params["prompt"] = PROMPT
    page.run()
    assert not page.exception
    assert "Press Run" in everything(page)
    run_button(page).click().run()
    settled(page, client)
    assert not page.exception
    result = run("both", layers=(0, 1), top=8)
    told = everything(page)
    assert ablation_result.verdict(result) in told
    assert "41% at layer 1" in told
    assert "n = " in told
    assert page.query_params["run"] == result.request.id
    table = page.dataframe[0].value
    assert table["rank"].tolist() == list(range(1, 11))
    assert len(page.dataframe[1].value) == 4  # two clamps at two depths


def test_page_address_repeats_the_run(page, client, sessions):
    request = AblationRequest(
        experiment_id="both", prompt="Ask little.", layers=(1,), top=3, picked=((1, 111),),
        strength=0.5, seed=7,
    )  # fmt: skip
    for key, value in {
        "prompt": request.prompt, "depth": "1", "top": "3", "pick": "1.111",
        "strength": "0.5", "seed": "7", "run": request.id,
    }.items():  # fmt: skip
        page.query_params[key] = value
    settled(page.run(), client)
    assert not page.exception
    expected = ablation_result.verdict(ablation.run(request, sessions["both"]))
    assert expected in everything(page)
    page.slider(key="url:top").set_value(
        5
    ).run()  # the address follows, the old result is marked as such
    assert page.query_params["top"] == "5"
    assert "other settings" in everything(page)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"experiment": "bare"}, "no live bundle for 'bare'"),
        ({"prompt": "   "}, "prompt is empty"),
        ({"depth": "none"}, "at least one depth"),
        ({"strength": "much"}, "strength `much`"),
        ({"top": "-3"}, "`-3`"),
        ({"pick": "1.999999"}, "1.999999"),
    ],
)
def test_page_explains_bad_addresses(page, parameters, told):
    for key, value in parameters.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    assert told in everything(page) + " ".join(w.value for w in page.warning)


def test_page_shows_the_worker_s_refusal_and_markup_as_text(page, client):
    page.query_params["prompt"] = "<script>alert(1)</script> " * 30
    page.run()
    run_button(page).click().run()
    settled(page, client)
    assert not page.exception
    assert "780 tokens, the limit is 256: shorten it" in everything(page)
    page.text_area[0].set_value("<script>alert(1)</script>").run()
    run_button(page).click().run()
    settled(page, client)
    strip = " ".join(html.proto.body for html in page.get("html"))
    assert "&lt;" in strip
    assert "<script" not in strip


def test_verdict_says_it_when_nothing_differs(run):
    same = run("both")
    same = replace(
        same,
        clamped=replace(same.clamped, share_reversed=None),
        control=replace(same.control, share_reversed=None),
    )
    assert "nothing to undo" in ablation_result.verdict(same)


def test_verdict_names_harm_and_percentages_read_well(run):
    worse = run("both", top=8)
    worse = replace(worse, clamped=replace(worse.clamped, share_reversed=-2.61))
    told = ablation_result.verdict(worse)
    assert "undoes nothing of the output change; it adds to it" in told
    assert "of that ceiling" not in told
    shown = [percent(share) for share in (0.123, 0.0449, -2.61, -0.0001, 1.0)]
    assert shown == ["12 %", "4.5 %", "\u2212261 %", "0 %", "100 %"]


def test_figure_shows_the_four_conditions_with_their_numbers(run):
    result = run("both", top=8)
    figure = divergence_from_base(result)
    bars = {bar.y[0]: bar.x[0] for bar in figure.data if bar.type == "bar"}
    assert bars == {
        "tuned": result.tuned.kl,
        "clamped": result.clamped.kl,
        "control (1 draw)": result.control.kl,
        "full patch": result.ceiling.kl,
    }
    line = next(d for d in figure.data if d.type == "scatter" and d.name == "clamped")
    assert list(line.y) == list(result.clamped.kl_per_token[SKIP:])
    assert line.x[0] == SKIP  # made at position 4 (BOS = 0), it is of the prompt's token 4
    assert line.customdata[-1] == " (next token)"


def test_dashboard_side_imports_no_torch():
    code = (
        "import sys, lib.ablation.client, lib.figures.ablation, lib.ui.ablation;"
        "print([m for m in ('torch', 'transformers', 'peft', 'nnsight') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
