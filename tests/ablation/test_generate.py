"""Four texts written in step: against plain recomputed passes, by hand, and cut off anywhere."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from lib import paths
from lib.ablation import AblationError, AblationRequest
from lib.ablation.generate import GenerateRequest, GenerateResult, generate
from lib.ablation.lane_edits import CLAMPED, CONTROL, lane_edits
from lib.ablation.passes import How
from lib.ablation.selection import choose, draw_random
from lib.ablation.writer import Writer, end_tokens, pick
from lib.metrics.divergence import kl_per_token
from tests.ablation.small import PROMPT, make

NEW = 6


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return make(tmp_path_factory.mktemp("live"), "both")


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    """The residual stream after the last block."""
    return make(tmp_path_factory.mktemp("live"), "last", hook="residual", layers=(1,))


def ask(
    name="both", prompt=PROMPT, *, control="", max_new_tokens=NEW, temperature=0.0, seed=0, **on
):
    """The other fields are the intervention's."""
    on = {"experiment_id": name, "prompt": prompt, "top": 6, **on}
    return GenerateRequest(
        ablation=AblationRequest(**on),
        control=control,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


def lanes(result):
    return {lane.name: lane for lane in result.lanes}


def alike(lane, other):
    """The same tokens; the numbers up to rounding, which depends on the row of a batch."""
    assert [step.id for step in lane.steps] == [step.id for step in other.steps]
    for name in ("kl", "probability", "base_probability"):
        found, wanted = ([getattr(s, name) for s in part.steps] for part in (lane, other))
        assert found == pytest.approx(wanted, abs=1e-6)


# ---------------------------------------------------------------- against recomputed prefixes


def recomputed(request, session, lane, prefix):
    """Logits of a lane and of base after a prefix, read from its start with no cache and no batch."""
    asked = request.ablation
    selected = choose(asked, session.info, session.offered, session.loaded.n_layers)
    layers = tuple(part.layer for part in selected)
    how = {"layers": layers, "hook": asked.hook or session.info.hook}
    ids = torch.tensor([prefix])
    base = session.run(ids, How(**how, as_base=True))
    logits = session.loaded.logits(base.hidden)[0, -1]
    if lane == "base":
        return logits, logits
    scale = asked.strength if asked.intervention == "scale_lora" and lane == "clamped" else 1.0
    edits = None
    if lane in ("clamped", "control") and asked.intervention != "scale_lora":
        drawn = ()
        if request.matched_control == "random_latents":
            drawn = draw_random(selected, session.offered, asked.seed, 0)
        length = len(session.tokens(asked)[0]) + request.max_new_tokens
        edit = lane_edits(request, session, selected, drawn, length)[
            {"clamped": CLAMPED, "control": CONTROL}[lane]
        ]
        edits = {k: lambda x, k=k: edit(k, x[0], base.before[k][0], 0)[None] for k in layers}
    own = session.run(ids, How(**how, scale=scale), edits)
    return session.loaded.logits(own.hidden)[0, -1], logits


INTERVENTIONS = [
    {},
    {"control": "gaussian", "intervention": "code_clamp"},
    {"control": "sign_flipped", "intervention": "zero", "strength": 0.5},
    {"intervention": "subspace_swap", "layers": (1,)},
    {"intervention": "full_patch", "hook": "residual", "layers": (0,), "strength": 0.7},
    {"intervention": "steer", "strength": 3.0},
    {"intervention": "scale_lora", "strength": 0.3},
    {"temperature": 1.0, "seed": 4},
]


@pytest.mark.parametrize("fields", INTERVENTIONS, ids=str)
def test_every_step_is_that_of_the_whole_text_read_anew(session, fields):
    """The cache, the batch and the shared passes change nothing."""
    request = ask(**fields)
    result = generate(request, session)
    prompt = session.tokens(request.ablation)[0].tolist()
    for lane in result.lanes:
        written = [step.id for step in lane.steps]
        for at, step in enumerate(lane.steps):
            own, base = recomputed(request, session, lane.name, prompt + written[:at])
            p, q = own.softmax(-1), base.softmax(-1)
            assert step.probability == pytest.approx(float(p[step.id]), abs=1e-5)
            assert step.base_probability == pytest.approx(float(q[step.id]), abs=1e-5)
            kl = float(kl_per_token(own[None], base[None])[0])
            assert step.kl == pytest.approx(kl, abs=1e-5)
            best = [t.probability for t in step.next_tokens]
            assert best == pytest.approx(p.topk(10).values.tolist(), abs=1e-5)
            if request.temperature == 0:
                assert float(p[step.id]) == pytest.approx(best[0], abs=1e-5)


@pytest.mark.parametrize("fields", [{}, {"intervention": "zero", "strength": 0.5}], ids=str)
def test_edits_are_measured_over_the_prompt_and_what_was_written(session, fields):
    """Against one pass over the whole text that the treated lane has read, without its last token."""
    request = ask(**fields)
    result = generate(request, session)
    lane = lanes(result)["clamped"]
    asked = request.ablation
    prompt = session.tokens(asked)[0].tolist()
    ids = torch.tensor([prompt + [step.id for step in lane.steps[:-1]]])
    layers = tuple(part.layer for part in result.selected)
    how = How(layers=layers, hook=session.info.hook)
    base = session.run(ids, replace(how, as_base=True)).before
    change = lane_edits(request, session, result.selected, result.drawn, len(ids[0]))[CLAMPED]
    edits = {k: lambda x, k=k: change(k, x[0], base[k][0], 0)[None] for k in layers}
    done = session.run(ids, how, edits)
    assert [edit.layer for edit in lane.edits] == list(layers)
    for edit in lane.edits:
        before, after, aim = (
            part[edit.layer][0, asked.skip_first :] for part in (done.before, done.after, base)
        )
        assert edit.norm == pytest.approx(float((after - before).norm(dim=1).mean()), rel=1e-4)
        gap, left = (before - aim).square().sum(), (after - aim).square().sum()
        assert edit.removed == pytest.approx(float(1 - left / gap), abs=1e-4)
    control = lanes(result)["control"].edits
    assert [edit.norm > 0 for edit in control] == [True] * len(layers)
    assert lanes(result)["base"].edits == lanes(result)["tuned"].edits == ()


def test_a_full_patch_removes_all_of_the_difference_and_a_scaled_adapter_has_no_edit(session):
    whole = lanes(generate(ask(intervention="full_patch"), session))["clamped"]
    assert [edit.removed for edit in whole.edits] == pytest.approx([1.0, 1.0])
    scaled = generate(ask(intervention="scale_lora", strength=0.3), session)
    assert all(lane.edits == () for lane in scaled.lanes)


def test_the_lanes_differ_and_the_edits_do_something(session):
    found = lanes(generate(ask(intervention="full_patch", max_new_tokens=24), session))
    assert list(found) == ["base", "tuned", "clamped", "control"]
    assert found["tuned"].kl > 0.01
    assert found["base"].kl == 0
    assert len({lane.text for lane in found.values()}) >= 3
    assert len({lane.kl for lane in found.values()}) == 4


def test_strength_zero_writes_what_the_tuned_model_writes(session):
    found = lanes(generate(ask(strength=0.0), session))
    alike(found["clamped"], found["tuned"])
    alike(found["control"], found["tuned"])


def test_base_activations_after_the_last_block_write_what_base_writes(last):
    found = lanes(generate(ask("last", intervention="full_patch"), last))
    assert [s.id for s in found["clamped"].steps] == [s.id for s in found["base"].steps]
    assert found["clamped"].kl == pytest.approx(0, abs=1e-6)
    assert found["tuned"].kl > 1e-3


def test_an_adapter_scaled_to_nothing_writes_what_base_writes(session):
    result = generate(ask(intervention="scale_lora", strength=0.0), session)
    found = lanes(result)
    assert list(found) == ["base", "tuned", "clamped"]
    assert found["clamped"].kl == pytest.approx(0, abs=1e-6)
    assert found["clamped"].text == found["base"].text
    again = generate(ask(intervention="scale_lora", strength=1.0), session)
    assert lanes(again)["clamped"].text == lanes(again)["tuned"].text


def test_the_control_has_the_treated_size_at_every_token(session):
    for control in ("random_latents", "gaussian", "sign_flipped"):
        request = ask(control=control, strength=0.6)
        asked = request.ablation
        selected = choose(asked, session.info, session.offered, 2)
        drawn = draw_random(selected, session.offered, 0, 0) if "random" in control else ()
        edits = lane_edits(request, session, selected, drawn, 30)
        x, base = torch.randn(30, 32), torch.randn(30, 32)
        treated, matched = (edits[lane](1, x, base, 0) - x for lane in (CLAMPED, CONTROL))
        assert torch.equal(matched[:4], torch.zeros(4, 32))
        fires = treated.norm(dim=1) > 0
        assert fires[4:].float().mean() > 0.5
        assert torch.allclose(treated.norm(dim=1), matched.norm(dim=1), atol=1e-5)
        along = torch.cosine_similarity(treated[fires], matched[fires]).mean()
        assert (
            float(along) == pytest.approx(-1, abs=1e-4) if "sign" in control else along.abs() < 0.5
        )


# ---------------------------------------------------------------- tokens and text


def test_pick_by_hand():
    logits = torch.tensor([0.1, 0.6, 0.3]).log()
    assert pick(logits, 0.0, 0.99) == 1
    assert [pick(logits, 1.0, luck) for luck in (0.0, 0.09, 0.11, 0.69, 0.71, 0.9999)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    # squared and normalised: 0.01, 0.36, 0.09 over 0.46, so the first ends at 0.0217
    assert [pick(logits, 0.5, luck) for luck in (0.02, 0.03, 0.80, 0.81)] == [0, 1, 1, 2]
    assert pick(torch.tensor([0.0, -torch.inf]), 1.0, 0.9999999) == 0


def test_sampling_is_seeded_and_shared_by_the_lanes(session):
    first = generate(ask(temperature=1.0, seed=1), session)
    assert generate(ask(temperature=1.0, seed=1), session).lanes == first.lanes
    other = generate(ask(temperature=1.0, seed=2), session)
    assert lanes(other)["base"].text != lanes(first)["base"].text
    same = lanes(generate(ask(temperature=1.0, strength=0.0), session))
    alike(same["clamped"], same["tuned"])


def forced(session, monkeypatch, tokens, lane=None):
    """Make lanes choose these tokens, whatever the model predicts."""
    chosen = Writer.write

    def write(self, logits, base, temperature, luck, last):
        if lane in (None, self.name):
            logits = torch.full_like(logits, -50.0)
            logits[tokens[min(len(self.steps), len(tokens) - 1)]] = 50.0
        chosen(self, logits, base, temperature, luck, last)

    monkeypatch.setattr(Writer, "write", write)


def test_a_lane_that_ends_stops_and_the_others_go_on(session, monkeypatch):
    (end,) = end_tokens(session)
    plain = lanes(generate(ask(), session))
    letter = session.loaded.tokenizer("a", add_special_tokens=False)["input_ids"][0]
    forced(session, monkeypatch, [letter, letter, end], lane="tuned")
    told = []
    result = generate(ask(), session, tell=lambda **m: told.append((m["lane"], m["step"])))
    found = lanes(result)
    assert found["tuned"].stopped == "end"
    assert found["tuned"].text == "aa"
    assert [s.id for s in found["tuned"].steps] == [letter, letter, end]
    assert [m for m in told if m[0] == "tuned"] == [("tuned", 0), ("tuned", 1), ("tuned", 2)]
    for name in ("base", "clamped", "control"):
        assert found[name].stopped == "limit"
        assert found[name].text == plain[name].text


def test_all_lanes_ended_is_the_end(session, monkeypatch):
    forced(session, monkeypatch, [5, *end_tokens(session)])
    steps = []
    result = generate(ask(), session, progress=lambda stage, done, total: steps.append(done))
    assert steps == [0, 1]
    assert all(len(lane.steps) == 2 for lane in result.lanes)


def test_a_character_of_several_tokens_is_shown_when_it_is_whole(session, monkeypatch):
    ids = session.loaded.tokenizer("né", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    forced(session, monkeypatch, [*ids, *end_tokens(session)])
    lane = generate(ask(), session).lanes[0]
    assert [step.token for step in lane.steps] == ["n", "", "é", ""]
    assert lane.text == "né"


def test_streamed_tokens_are_those_of_the_result(session):
    told = []
    result = generate(ask(), session, tell=lambda **m: told.append(m))
    assert [(m["lane"], m["step"]) for m in told[:5]] == [
        *((name, 0) for name in ("base", "tuned", "clamped", "control")),
        ("base", 1),
    ]
    assert {m["event"] for m in told} == {"token"}
    assert json.loads(json.dumps(told, allow_nan=False))
    for lane in result.lanes:
        assert "".join(m["token"] for m in told if m["lane"] == lane.name) == lane.text


@pytest.mark.parametrize("at", [1, 6, 17])
def test_cancel_at_any_token_and_go_on_afterwards(session, at):
    class Stop(BaseException):
        pass

    seen = []

    def tell(**message):
        seen.append(message)
        if len(seen) == at:
            raise Stop

    before = generate(ask(), session).lanes
    with pytest.raises(Stop):
        generate(ask(), session, tell=tell)
    assert len(seen) == at
    assert generate(ask(), session).lanes == before


def test_request_and_result_survive_json(session):
    result = generate(ask(picked=((1, 107),), temperature=0.5), session)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert GenerateResult.from_json(json.loads(text)) == result
    assert GenerateRequest.from_json(json.loads(text)["request"]).id == result.request.id
    assert ask(seed=1).id != ask().id != ask(strength=0.5).id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "give 1 to 256"),
        ({"temperature": 2.5}, "temperature=2.5"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"control": "shuffled"}, "cannot be generated; there are random_latents"),
        ({"control": "random_latents", "intervention": "full_patch"}, "no latents to draw"),
        ({"prompt": "", "documents": ("a text",)}, "give a prompt"),
        ({"prompt": "x" * 300}, "300 tokens, the limit is 256"),
        (
            {"prompt": "x" * 300, "prompt_limit": 400, "max_new_tokens": 256},
            "557 tokens, the model",
        ),
        ({"picked": ((1, 4),)}, r"latents \[4\] at layer 1"),
        ({"layers": (0, 9)}, r"depth \[9\]"),
    ],
)
def test_requests_that_cannot_run_say_why(session, fields, message):
    with pytest.raises(AblationError, match=message):
        generate(ask(**fields), session)


def test_a_prediction_that_is_no_number_is_refused(session):
    good, bad = torch.zeros(258), torch.full((258,), torch.nan)
    with pytest.raises(AblationError, match="clamped run gives no number after 0 new tokens"):
        Writer("clamped", session).write(bad, good, 0.0, 0.5)


def test_the_request_needs_no_torch():
    code = "import sys, lib.ablation.generate; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False)
    assert done.returncode == 0
