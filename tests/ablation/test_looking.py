"""The lens on one prompt against plain hooks on weights added by hand, and everything it refuses."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from lib import models, paths
from lib.ablation import AblationError
from lib.ablation.client import AblationClient
from lib.ablation.looking import READINGS, LensRequest, LensResult, look
from lib.ablation.results import ResultStore
from lib.ablation.token_lens import ROWS, geometry
from lib.ablation.token_readings import Streams
from lib.lens.patchscope import patchscope
from tests.ablation.bundles import PROMPT
from tests.ablation.small import make

ALPHA_OVER_R = 8 / 4


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return make(tmp_path_factory.mktemp("live"), "both")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The adapter's own tensors, of the same seed as the session's."""
    root = tmp_path_factory.mktemp("again")
    make(root, "both")
    return load_file(paths.live_bundle("both", root) / "adapter" / "adapter_model.safetensors")


def ask(prompt=PROMPT, **fields):
    return LensRequest(experiment_id="both", prompt=prompt, **fields)


def by_hand(weights, ids, layer, scale):
    """Stream after a block and logits, of a fresh model with scale * (alpha / r) * B A added."""
    loaded = models.load("tiny-llama", device="cpu")
    for name, a in weights.items():
        if "lora_A" in name:
            module = name.removeprefix("base_model.model.").partition(".lora_A")[0]
            b = weights[name.replace("lora_A", "lora_B")]
            weight = loaded.model.get_submodule(module).weight
            weight.data += scale * ALPHA_OVER_R * (b @ a)
    seen = []
    handle = loaded.block(layer).register_forward_hook(
        lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[loaded.tokenizer.bos_token_id, *ids]])).logits
    handle.remove()
    return seen[0][0, 1:].double(), logits[0, 1:], loaded


def close(said, loaded, vector, k=10):
    """A reading against softmax(W_U norm(vector)) written out."""
    norm, rows = loaded.model.model.norm, loaded.unembedding
    unit = vector.float() / (vector.float().square().mean() + norm.variance_epsilon).sqrt()
    shares = (rows @ (unit * norm.weight)).softmax(0)
    best = shares.topk(k)
    assert [t.probability for t in said] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert [t.token for t in said] == [loaded.tokenizer.decode([i]) for i in best.indices.tolist()]


@pytest.mark.parametrize(("layer", "scale"), [(0, 1.0), (1, 1.0), (1, 0.4), (None, 2.0)])
def test_every_number_is_that_of_plain_hooks_on_added_weights(session, weights, layer, scale):
    result = look(ask(layer=layer, scale_lora=scale), session)
    place = 1 if layer is None else layer  # floor(2 / 2)
    assert result.layer == place
    ids = session.encode(PROMPT)
    base, _, loaded = by_hand(weights, ids, place, 0.0)
    tuned, _, _ = by_hand(weights, ids, place, scale)
    moved = tuned - base
    assert len(result.tokens) == len(ids)
    assert "".join(t.token for t in result.tokens) == PROMPT
    assert not any(t.massive for t in result.tokens)
    for at, token in enumerate(result.tokens):
        others = (moved.sum(0) - moved[at]) / (len(ids) - 1)
        cosine = torch.cosine_similarity(moved[at], others, dim=0)
        assert token.norm == pytest.approx(float(moved[at].norm()), rel=1e-5, abs=1e-5)
        assert token.base_norm == pytest.approx(float(base[at].norm()), rel=1e-5)
        assert token.tuned_norm == pytest.approx(float(tuned[at].norm()), rel=1e-5)
        assert token.relative == pytest.approx(float(moved[at].norm() / base[at].norm()), rel=1e-4)
        assert token.cosine == pytest.approx(float(cosine), abs=1e-5)
        for name, vector in zip(READINGS, (moved, -moved, base, tuned), strict=True):
            close(getattr(token, name), loaded, vector[at])
    assert min(t.norm for t in result.tokens) > 1e-3
    assert result.mean_norm == pytest.approx(float(moved.mean(0).norm()), rel=1e-5)
    share = len(ids) * moved.mean(0).square().sum() / moved.square().sum()
    assert result.offset_share == pytest.approx(float(share), rel=1e-5)
    assert result.eta == pytest.approx(float(tuned[3:].norm(dim=1).mean()), rel=1e-5)


def test_after_the_last_block_the_streams_say_what_the_models_predict(session, weights):
    result = look(ask(layer=1, k=5), session)
    for name, scale in (("base", 0.0), ("tuned", 1.0)):
        _, logits, _ = by_hand(weights, session.encode(PROMPT), 1, scale)
        for token, line in zip(result.tokens, logits, strict=True):
            said = [t.probability for t in getattr(token, name)]
            assert said == pytest.approx(line.softmax(0).topk(5).values.tolist(), abs=1e-5)


def test_at_strength_zero_nothing_differs_and_nothing_is_read(session):
    result = look(ask(scale_lora=0.0, position=2, patchscope=True), session)
    assert [t.norm for t in result.tokens] == [0.0] * len(result.tokens)
    assert [t.base_norm for t in result.tokens] == [t.tuned_norm for t in result.tokens]
    assert {t.cosine for t in result.tokens} == {None}
    assert result.mean_norm == 0.0
    assert result.offset_share is None
    assert result.scope is None
    token = result.tokens[2]
    assert token.difference == token.negated == ()
    assert token.base == token.tuned
    assert len(token.base) == 10


def test_the_difference_grows_with_the_strength(session):
    norms = [look(ask(scale_lora=s, k=1), session).mean_norm for s in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert norms == sorted(norms)
    assert norms[2] / norms[1] == pytest.approx(2, rel=0.02)  # small changes are linear


def test_one_vector_everywhere_has_cosine_and_share_one():
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(9, 16, generator=generator)
    vector = torch.randn(16, generator=generator)
    found = geometry(Streams(base, base + vector))
    assert found.cosine.tolist() == pytest.approx([1.0] * 9, abs=1e-5)
    assert found.offset_share == pytest.approx(1.0, abs=1e-5)
    assert found.mean_norm == pytest.approx(float(vector.norm()), rel=1e-5)


def test_geometry_by_hand_leaves_massive_tokens_out_of_the_means():
    base = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [100.0, 0.0]])
    moved = torch.tensor([[0.3, 0.0], [0.3, 0.0], [0.0, 0.4], [0.0, -50.0]])
    found = geometry(Streams(base, base + moved))
    assert found.ordinary.tolist() == [True, True, True, False]
    # others: (0.3, 0.4), (0.3, 0.4), (0.6, 0), and for the massive one (0.6, 0.4)
    wanted = [0.6, 0.6, 0.0, -0.4 / math.sqrt(0.52)]
    assert found.cosine.tolist() == pytest.approx(wanted, abs=1e-5)
    assert found.mean_norm == pytest.approx(math.hypot(0.2, 0.4 / 3), rel=1e-5)
    assert found.offset_share == pytest.approx(3 * (0.04 + 0.16 / 9) / 0.34, rel=1e-5)
    # the only token past the third is massive: the ordinary ones count
    lengths = (1.3, math.hypot(0.3, 1.0), math.hypot(1.0, 0.4))
    assert found.eta == pytest.approx(sum(lengths) / 3, rel=1e-5)


def test_a_single_token_has_no_others(session):
    result = look(ask("a"), session)
    (token,) = result.tokens
    assert token.cosine is None
    assert result.offset_share == pytest.approx(1.0)
    assert token.norm == pytest.approx(result.mean_norm)


def test_a_picked_token_reads_as_among_all(session):
    whole = look(ask("ab" * ROWS), session)
    one = look(ask("ab" * ROWS, position=ROWS + 3), session)
    for at, (token, alone) in enumerate(zip(whole.tokens, one.tokens, strict=True)):
        assert (token.norm, token.cosine) == (alone.norm, alone.cosine)
        for name in READINGS:
            said = getattr(alone, name)
            if at != ROWS + 3:
                assert said == ()
                continue
            wanted = getattr(token, name)
            assert [t.token for t in said] == [t.token for t in wanted]
            assert [t.probability for t in said] == pytest.approx(
                [t.probability for t in wanted], abs=1e-6
            )


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_patchscope_reads_the_picked_difference_in_the_scaled_model(session, weights, scale):
    result = look(ask(position=4, patchscope=True, scale_lora=scale, k=6), session)
    ids = session.encode(PROMPT)
    base, _, loaded = by_hand(weights, ids, 1, 0.0)
    tuned, _, scaled = by_hand(weights, ids, 1, scale)
    vector = (tuned - base)[4:5].float()
    wanted = patchscope(scaled, vector, result.eta, 1, 6)
    said = result.scope
    shares = [p for p in wanted.shares[0].tolist() if not math.isnan(p)]
    assert [t.probability for t in said.tokens] == pytest.approx(shares, abs=1e-5)
    assert shares
    assert said.scale == pytest.approx(float(wanted.scale[0]))
    assert said.score == pytest.approx(float(wanted.score[0]), abs=1e-5)
    assert loaded.name == "tiny-llama"


# ---------------------------------------------------------------- chat, stages, cancelling


def test_a_chat_turn_is_the_rendered_text_without_a_second_start_token(session, monkeypatch):
    template = (
        "{{ bos_token }}[{{ messages[0]['content'] }}]{% if add_generation_prompt %}:{% endif %}"
    )
    with pytest.raises(AblationError, match="tiny-llama has no chat template"):
        look(ask("hi", chat=True), session)
    monkeypatch.setattr(session.loaded.tokenizer, "chat_template", template)
    chat, plain = look(ask("hi", chat=True), session), look(ask("[hi]:"), session)
    assert [t.token for t in chat.tokens] == list("[hi]:")
    assert chat.tokens == plain.tokens
    with pytest.raises(AblationError, match="258 tokens with the chat template, the limit is 256"):
        look(ask("x" * 255, chat=True), session)


def test_a_character_of_several_tokens_is_shown_once_and_whole(session):
    assert [t.token for t in look(ask("né", k=1), session).tokens] == ["n", "é", ""]


STAGES = ["base", "tuned", "logit lens", "Patchscope"]


@pytest.mark.parametrize("at", range(len(STAGES)))
def test_cancel_at_any_stage_and_go_on_afterwards(session, at):
    class Stop(BaseException):
        pass

    request = ask(position=1, patchscope=True, scale_lora=0.5)
    before = look(request, session)
    seen = []

    def report(stage, done=None, total=None):
        seen.append(stage)
        if len(seen) == at + 1:
            raise Stop

    with pytest.raises(Stop):
        look(request, session, progress=report)
    assert seen == STAGES[: at + 1]
    after = look(request, session)
    assert (after.tokens, after.scope) == (before.tokens, before.scope)
    strong = look(ask(), session)
    assert strong.tokens == look(ask(scale_lora=1.0), session).tokens
    assert strong.mean_norm > 1.2 * before.mean_norm  # the strength was put back


def test_progress_counts_the_tokens_read(session):
    seen = []
    look(ask("x" * (2 * ROWS + 1), k=1), session, progress=lambda *told: seen.append(told))
    total = 2 * ROWS + 1
    assert seen == [("base",), ("tuned",)] + [("logit lens", n, total) for n in (0, ROWS, 2 * ROWS)]


# ---------------------------------------------------------------- refusals, JSON, the worker


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n "}, "prompt is empty"),
        ({"prompt": "good \ud800 bad"}, r"half of a surrogate pair \(U\+D800, character 6\)"),
        ({"prompt": "\udfff"}, "half of a surrogate pair"),
        ({"prompt": "x" * 257}, "257 tokens, the limit is 256: shorten it"),
        ({"layer": 2}, "no layer 2: tiny-llama has layers 0 to 1"),
        ({"layer": -1}, "no layer -1"),
        ({"against": "mean"}, "no against 'mean'; there is base"),
        ({"position": -1}, "no token -1"),
        ({"prompt": "abc", "position": 3}, "no token 3: the prompt has tokens 0 to 2"),
        ({"patchscope": True}, "give its position"),
        ({"k": 0}, "k=0: give 1 to 50"),
        ({"k": 51}, "k=51"),
        ({"scale_lora": 2.1}, "scale_lora=2.1: give 0 to 2"),
        ({"scale_lora": -0.1}, "scale_lora=-0.1"),
        ({"scale_lora": float("nan")}, "scale_lora=nan"),
    ],
)
def test_requests_that_cannot_run_say_why(session, fields, message):
    with pytest.raises(AblationError, match=message):
        look(ask(**{"prompt": PROMPT, **fields}), session)


def test_an_adapter_that_replaces_weights_cannot_be_scaled_to_base(session, monkeypatch):
    monkeypatch.setattr("lib.ablation.token_lens.reaches_base", lambda loaded: False)
    assert look(ask("ab"), session).mean_norm > 0
    with pytest.raises(AblationError, match="also replaces weights"):
        look(ask("ab", scale_lora=0.5), session)


def test_request_and_result_survive_json(session):
    for request in (ask(k=3), ask(position=0, patchscope=True, layer=0), ask("a", scale_lora=0.0)):
        result = look(request, session)
        text = json.dumps(result.to_json(), allow_nan=False)
        assert LensResult.from_json(json.loads(text)) == result
        assert LensRequest.from_json(json.loads(text)["request"]).id == request.id
    assert len({ask().id, ask(layer=1).id, ask(k=3).id, ask(scale_lora=0.5).id, ask("b").id}) == 5


def test_a_worker_answers_stores_and_replays_it(bundles, sessions, monkeypatch, tmp_path):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(bundles))
    client = AblationClient(devices=("cpu",), results=ResultStore(tmp_path))
    request = ask(scale_lora=0.5, position=1, patchscope=True)
    try:
        first = ended(client, client.submit(request))
        assert first.message == ""
        here = look(request, sessions["both"])
        assert first.result.tokens == here.tokens
        assert first.result.scope == here.scope
        again = ended(client, client.submit(request))
        refused = ended(client, client.submit(ask(layer=9)))
        replay = ended(client, client.replay(request.id)).replay
    finally:
        client.close()
    assert "no layer 9" in refused.message
    assert again.result == first.result
    assert replay.agrees, replay.words
    later = AblationClient(devices=("cpu",), results=ResultStore(tmp_path))
    assert later.progress(later.submit(request)).stored


def ended(client, ticket, patience=200.0):
    until = time.monotonic() + patience
    while not (progress := client.progress(ticket)).finished:
        assert time.monotonic() < until, progress
        time.sleep(0.02)
    return progress


def test_the_request_needs_no_torch():
    code = "import sys, lib.ablation.looking; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False)
    assert done.returncode == 0
