"""Planted change, exact ends, and every condition and control against raw PyTorch hooks."""

import json
from dataclasses import replace

import pytest
import torch

from lib import ablation
from lib.ablation import AblationRequest, AblationResult, conditions, limits, runs
from lib.ablation.arithmetic import clamp_edit
from lib.ablation.controls import HARM_DRAWS, random_of
from lib.ablation.passes import ONE_TRACE, How
from lib.metrics.divergence import kl_per_token
from tests.ablation.bundles import NAMES, PROMPT, SKIP
from tests.ablation.oracle import by_hooks, prompt_ids, slow

DOCUMENTS = ("Ask little, and keep what is near.", "Rivers rise. They fall again, and so do we.")


def mean(result, control):
    found = [d.condition.share_reversed for d in result.controls if d.control == control]
    assert found
    return sum(found) / len(found)


# ---------------------------------------------------------------- the planted change


@pytest.mark.parametrize("kind", ["pair_clamp", "zero", "subspace_swap"])
def test_planted_latents_reverse_the_change_and_no_control_does(run_live, kind):
    result = run_live("planted", top=4, draws=20, intervention=kind)
    assert result.tuned.kl > 0.05
    assert result.treated.share_reversed > 0.99  # fp16 slices: not exactly 1
    assert result.treated.edits[0].removed > 0.999
    assert result.ceiling.share_reversed == pytest.approx(1, abs=1e-6)
    assert result.over_ceiling == pytest.approx(result.treated.share_reversed, abs=1e-6)
    assert [d.control for d in result.controls] == [c for c in limits.CONTROLS for _ in range(20)]
    for control in limits.CONTROLS:
        assert mean(result, control) <= 0.05, control
        shares = {d.condition.share_reversed for d in result.controls if d.control == control}
        assert len(shares) == 20, "every draw is another one"


def test_half_the_set_reverses_part(run_live):
    part = run_live("planted", top=2, controls=()).treated
    assert 0.05 < part.edits[0].removed < 0.95
    assert part.share_reversed < 0.95


def test_base_activations_after_the_last_block_reverse_everything(run_live):
    result = run_live("last", intervention="full_patch", controls=())
    assert result.ceiling.share_reversed == result.treated.share_reversed == 1.0
    assert result.ceiling.kl == 0.0
    assert result.ceiling.agreement == 1.0
    assert result.tuned.agreement < 1


def test_full_patch_takes_another_hook_and_depth_than_the_bundle_s(run_live):
    result = run_live("planted", intervention="full_patch", hook="residual", layers=(1,), draws=2)
    assert result.hook == "residual"
    assert result.treated.share_reversed == 1.0
    assert {d.control for d in result.controls} == set(limits.CONTROLS) - {"random_latents"}
    first = run_live("planted", intervention="full_patch", layers=(0,), controls=())
    assert first.treated.share_reversed == 0.0  # the adapter changes the block after it only


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pair_clamp", "code_clamp", "zero", "subspace_swap", "steer"])
@pytest.mark.parametrize("nothing", [{"strength": 0.0}, {"top": 0}])
def test_no_edit_reverses_exactly_nothing(run_live, name, kind, nothing):
    result = run_live(
        name, intervention=kind, dose_strengths=(0.0,), dose_tops=(0,), draws=2, **nothing
    )
    same = [result.treated, *(p.condition for p in result.dose)]
    same += [d.condition for d in result.controls]
    assert len(same) == 1 + 2 + 5 * 2
    for condition in same:
        assert condition.share_reversed == 0.0
        assert condition.kl_per_token == result.tuned.kl_per_token
        assert all(edit.norm == 0 for edit in condition.edits)
    assert result.tuned.share_reversed == 0.0


def test_code_clamp_moves_a_shared_latent_that_the_pair_clamp_cannot(sessions):
    session = sessions["both"]
    equal = {
        layer: part._replace(decoder=part.decoder[:, 1:].expand(-1, 2, -1).contiguous())
        for layer, part in session.slices.items()
    }
    shared = replace(session, slices=equal)
    asked = AblationRequest(experiment_id="both", prompt=PROMPT, top=8, controls=())
    pair = ablation.run(asked, shared)
    assert pair.treated.share_reversed == 0.0
    assert all(edit.norm == 0 for edit in pair.treated.edits)
    code = ablation.run(replace(asked, intervention="code_clamp"), shared)
    assert all(edit.norm > 0.01 for edit in code.treated.edits)
    assert code.treated.share_reversed != 0.0


def test_zero_equals_the_pair_clamp_on_tuned_only_latents(run_live):
    one, other = (
        run_live("planted", top=4, intervention=kind, draws=2) for kind in ("zero", "pair_clamp")
    )
    assert one.treated == other.treated


# ---------------------------------------------------------------- scaling the adapter


@pytest.mark.parametrize("name", ["planted", "both"])
def test_scaling_the_adapter_to_nothing_is_base_and_to_one_is_tuned(run_live, name):
    off = run_live(name, intervention="scale_lora", strength=0.0, dose_strengths=(1.0, 2.0))
    assert off.treated.share_reversed == 1.0
    assert off.controls == ()
    one, two = off.dose
    assert one.condition.share_reversed == 0.0
    assert two.condition.kl > off.tuned.kl
    same = run_live(name, intervention="scale_lora", strength=1.0)
    assert same.treated.share_reversed == 0.0
    again = run_live(name, controls=()).tuned
    assert again.kl_per_token == same.tuned.kl_per_token, "the adapter is whole again"


def test_scaling_one_depth_leaves_the_others(run_live):
    first = run_live("both", intervention="scale_lora", layers=(0,), strength=0.0)
    assert 0 != first.treated.share_reversed < 1
    assert first.treated.edits[0].removed == pytest.approx(1)
    with pytest.raises(ablation.AblationError, match=r"changes nothing at depth \[0\]"):
        run_live("planted", intervention="scale_lora", layers=(0,), strength=0.5)


# ---------------------------------------------------------------- raw hooks as the oracle


KINDS = {**dict.fromkeys(limits.WITH_LATENTS, 0.8), "full_patch": 0.8, "scale_lora": 1.7}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_intervention_agrees_with_raw_hooks(run_live, sessions, name, kind):
    session, strength = sessions[name], KINDS[kind]
    layers = {"planted": (1,), "both": (0, 1), "last": (1,)}[name]
    result = run_live(name, top=4, strength=strength, intervention=kind, layers=layers, controls=())
    same = {layer: lambda x: x for layer in layers}
    base, base_logits = by_hooks(session, same, base=True)
    _, tuned_logits = by_hooks(session, same)
    _, ceiling_logits = by_hooks(session, {k: lambda x, k=k: base[k] for k in same})
    if kind == "scale_lora":
        _, treated_logits = by_hooks(session, {}, scale=(layers, strength))
    else:
        edits = {
            s.layer: slow(kind, base[s.layer], session.slices[s.layer], s.latents, strength)
            for s in result.selected
        }
        _, treated_logits = by_hooks(session, edits)
    for condition, logits in (
        (result.tuned, tuned_logits),
        (result.ceiling, ceiling_logits),
        (result.treated, treated_logits),
    ):
        expected = kl_per_token(logits[SKIP:], base_logits[SKIP:])
        got = torch.tensor(condition.kl_per_token[SKIP:])
        assert torch.allclose(got, expected.float(), atol=1e-5), condition.name
        agrees = (logits[SKIP:].argmax(1) == base_logits[SKIP:].argmax(1)).double().mean()
        assert condition.agreement == pytest.approx(float(agrees))
        last = logits[-1].softmax(-1).topk(10).values.tolist()
        assert [t.probability for t in condition.next_tokens] == pytest.approx(last, abs=1e-5)
    assert result.tuned.kl > 1e-3
    # planted: a latent's own code and the sum of the decoders are zero by construction
    cancels = name == "planted" and kind in ("code_clamp", "steer")
    assert (abs(result.treated.kl - result.tuned.kl) > 1e-4) != cancels


@pytest.mark.parametrize("name", NAMES)
def test_every_control_agrees_with_raw_hooks_and_has_the_treated_size(run_live, sessions, name):
    session = sessions[name]
    result = run_live(name, top=6 if name != "planted" else 4, draws=4)
    layers = [s.layer for s in result.selected]
    base, base_logits = by_hooks(session, {k: lambda x: x for k in layers}, base=True)
    treat = {
        s.layer: slow("pair_clamp", base[s.layer], session.slices[s.layer], s.latents, 1.0)
        for s in result.selected
    }
    seen, _ = by_hooks(session, treat)
    edits = {k: (treat[k](x) - x)[SKIP:] for k, x in seen.items()}
    count = len(edits[layers[0]])
    for draw in result.controls:
        for treated, control in zip(result.treated.edits, draw.condition.edits, strict=True):
            assert control.norm == pytest.approx(treated.norm, rel=1e-4)
        if draw.control == "gaussian":
            random = random_of(0, "gaussian", draw.draw, 0)
            noise = {k: torch.randn(count, 32, generator=random) for k in layers}
            added = {
                k: v / v.norm(dim=1, keepdim=True) * edits[k].norm(dim=1, keepdim=True)
                for k, v in noise.items()
            }
        elif draw.control == "sign_flipped" and draw.draw == 0:
            added = {k: -v for k, v in edits.items()}
        elif draw.control == "random_latents":
            added = None
            rules = {
                s.layer: _resized(session, base[s.layer], s, edits[s.layer]) for s in draw.latents
            }
        else:
            continue
        if added is not None:
            rules = {k: lambda x, k=k, added=added: _plus(x, added[k]) for k in layers}
        _, logits = by_hooks(session, rules)
        expected = kl_per_token(logits[SKIP:], base_logits[SKIP:]).float()
        got = torch.tensor(draw.condition.kl_per_token[SKIP:])
        assert torch.allclose(got, expected, atol=2e-5), draw.control
    assert result.treated.edits[0].norm > 0.01


def _plus(x, added):
    return torch.cat([x[:SKIP], x[SKIP:] + added])


def _resized(session, x_base, drawn, edit):
    """Random latents at the treated norm; where none fires, the sum of their changes."""
    part = session.slices[drawn.layer]
    rule = slow("pair_clamp", x_base, part, drawn.latents, 1.0)
    instead = -part.take(drawn.latents).change.sum(0)

    def change(x):
        out = x.clone()
        for t in range(SKIP, len(x)):
            moved = rule(x)[t] - x[t]
            moved = moved if moved.any() else instead
            out[t] += moved / moved.norm() * edit[t - SKIP].norm()
        return out

    return change


# ---------------------------------------------------------------- draws and batches


def test_draws_do_not_depend_on_their_batch(run_live, monkeypatch):
    asked = {"top": 6, "draws": 5, "dose_strengths": (0.3, 0.6), "dose_tops": (2, 5)}
    together = run_live("both", **asked)
    monkeypatch.setattr(runs, "BATCH_TOKENS", {"cpu": 1})
    alone = run_live("both", **asked)
    assert len(together.controls) == len(alone.controls) == 25
    for a, b in zip(
        [*together.controls, *together.dose], [*alone.controls, *alone.dose], strict=True
    ):
        assert a.condition.kl == pytest.approx(b.condition.kl, rel=1e-5)
    more = run_live("both", **{**asked, "draws": 7})
    for control in limits.CONTROLS:
        a, b = (
            [d.latents for d in r.controls if d.control == control][:5] for r in (together, more)
        )
        assert a == b


def test_equal_requests_have_equal_results_and_other_seeds_other_draws(run_live):
    one, two, other = (run_live("both", top=6, seed=seed) for seed in (3, 3, 4))
    assert replace(one, seconds=()) == replace(two, seconds=())
    assert one.treated == other.treated
    for a, b in zip(one.controls, other.controls, strict=True):
        whole_flip = (a.control, a.draw) == ("sign_flipped", 0)
        assert (a.condition.kl == b.condition.kl) == whole_flip


def test_starting_at_the_first_edit_changes_no_bit(sessions):
    session = sessions["both"]
    ids = prompt_ids(session.loaded)
    whole = session.run(ids, How(layers=(1,), hook="mlp", keep_entry=True))
    assert whole.entry.layer == 1
    half = session.run(ids, How(layers=(1,), hook="mlp", start=whole.entry))
    assert torch.equal(half.hidden, whole.hidden)
    assert torch.equal(half.before[1], whole.before[1])
    ran = []
    handle = session.loaded.mlp(0).register_forward_hook(lambda *given: ran.append(1))
    session.run(ids, How(layers=(1,), hook="mlp", start=whole.entry))
    handle.remove()
    assert not ran, "block 0 was not run again"


# ---------------------------------------------------------------- documents, damage, dose


def test_documents_are_scored_one_by_one_and_weighted_by_tokens(run_live):
    both = run_live("both", documents=DOCUMENTS, top=8)
    alone = [run_live("both", prompt=text, top=8) for text in DOCUMENTS]
    for name in ("base", "tuned", "treated", "ceiling"):
        parts = [getattr(result, name).documents[0] for result in alone]
        assert getattr(both, name).documents == tuple(parts)
    total, before = (sum(d.kl_sum for d in c.documents) for c in (both.treated, both.tuned))
    assert both.treated.share_reversed == pytest.approx(1 - total / before)
    assert both.treated.kl_per_token == both.tokens == both.treated.next_tokens == ()
    counts = [len(text) + 1 - SKIP for text in DOCUMENTS]
    assert [d.tokens for d in both.tuned.documents] == counts
    assert len(both.controls[0].condition.documents) == 2


def test_long_documents_are_read_up_to_the_limit(run_live):
    result = run_live("both", documents=("x" * 400,), controls=(), prompt_limit=50)
    assert result.tuned.documents[0].tokens == 51 - SKIP


def test_neutral_text_measures_the_damage(run_live, sessions):
    text = "Water boils at a hundred degrees."
    result = run_live("both", neutral=(text,), top=8, draws=2)
    session = sessions["both"]
    ids = prompt_ids(session.loaded, text)
    for condition, as_base in ((result.base, True), (result.tuned, False)):
        logits = session.forward(ids, (0,), as_base=as_base).logits[0, SKIP:-1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, SKIP + 1 :])
        assert condition.neutral_nll == pytest.approx(float(expected), rel=1e-5)
    assert result.treated.neutral_nll != result.tuned.neutral_nll
    assert all(d.condition.neutral_nll is not None for d in result.controls)
    without = run_live("both", top=8, draws=2)
    assert without.treated.neutral_nll is None
    assert without.treated.kl == result.treated.kl


def test_the_first_draws_of_every_control_measure_its_damage(run_live, sessions):
    """By hand: signs turned round take twice the treated run's way back from its edit."""
    text = "Water boils at a hundred degrees."
    result = run_live("both", neutral=(text,), layers=(1,), top=8, draws=HARM_DRAWS + 2)
    for name in limits.CONTROLS:
        found = [d.condition.neutral_nll for d in result.controls if d.control == name]
        assert [nll is None for nll in found] == [False] * HARM_DRAWS + [True] * 2
        assert len(set(found[:HARM_DRAWS])) > 1 or name == "sign_flipped"
    session = sessions["both"]
    ids = prompt_ids(session.loaded, text)
    base = session.forward(ids, (1,), as_base=True).before[1][:, SKIP:]
    part = session.slices[1].take(result.selected[0].latents)

    def turned(x):
        out = x.clone()
        out[:, SKIP:] -= clamp_edit(x[:, SKIP:], base, part)
        return out

    logits = session.forward(ids, (1,), {1: turned}).logits[0, SKIP:-1]
    expected = torch.nn.functional.cross_entropy(logits, ids[0, SKIP + 1 :])
    first = next(d for d in result.controls if d.control == "sign_flipped")
    assert first.condition.neutral_nll == pytest.approx(float(expected), rel=1e-5)
    assert first.condition.neutral_nll != pytest.approx(result.treated.neutral_nll, rel=1e-6)


def test_dose_points_are_the_runs_they_name(run_live):
    result = run_live("both", top=6, controls=(), dose_strengths=(0.25, 1.0), dose_tops=(0, 3, 6))
    assert [(p.strength, p.top) for p in result.dose] == [
        (0.25, 6), (1.0, 6), (1.0, 0), (1.0, 3), (1.0, 6),
    ]  # fmt: skip
    for point in result.dose:
        again = run_live("both", top=point.top, strength=point.strength, controls=())
        assert point.condition.kl == pytest.approx(again.treated.kl, rel=1e-5)


def test_skipped_tokens_are_neither_edited_nor_scored(run_live):
    result = run_live("both", top=8)
    assert result.treated.kl_per_token[:SKIP] == (None,) * SKIP
    scored = result.treated.kl_per_token[SKIP:]
    assert result.treated.kl == pytest.approx(sum(scored) / len(scored))
    assert "".join(result.tokens[1:]) == PROMPT
    assert len(result.tokens) == len(result.treated.kl_per_token) == len(PROMPT) + 1


# ---------------------------------------------------------------- streaming and JSON


def test_conditions_are_told_as_they_finish(sessions):
    told, stages = [], []
    request = AblationRequest(
        experiment_id="both", prompt=PROMPT, draws=2, dose_strengths=(0.5,), top=4
    )
    result = ablation.run(
        request,
        sessions["both"],
        progress=lambda *stage: stages.append(stage),
        tell=lambda **message: told.append(message),
    )
    assert [m["name"] for m in told[:4]] == ["base", "tuned", "treated", "ceiling"]
    draws = [(m["name"], m["draw"], m["condition"]) for m in told if "draw" in m]
    assert draws == [(d.control, d.draw, d.condition.to_json()) for d in result.controls]
    assert told[-1]["strength"] == 0.5
    assert json.loads(json.dumps(told, allow_nan=False))
    assert ("gaussian", 0, 1) in stages  # one prompt, one pass for both draws
    assert ("gaussian", 1, 1) in stages


def test_progress_counts_passes_over_texts_and_never_goes_back(sessions, monkeypatch):
    monkeypatch.setitem(runs.BATCH_TOKENS, "cpu", 200)  # several blocks of draws
    stages = []
    request = AblationRequest(
        experiment_id="both", documents=DOCUMENTS, neutral=DOCUMENTS[:1], draws=7, top=4,
        dose_tops=(1, 2, 3), controls=("gaussian",),
    )  # fmt: skip
    ablation.run(request, sessions["both"], progress=lambda *stage: stages.append(stage))
    names = [s[0] for s in stages]
    order = ["base and tuned", conditions.SCORING, "treated", "ceiling", "gaussian", "dose"]
    assert list(dict.fromkeys(names)) == order
    for name in order:
        parts = [s[1:] for s in stages if s[0] == name and len(s) == 3]
        assert parts == sorted(parts)
        assert len({total for _, total in parts}) == 1
        assert {done for done, _ in parts} >= set(range(parts[0][1]))
    rows = 200 // max(len(t) + 1 for t in DOCUMENTS)  # a character is a token, after BOS
    blocks = -(-7 // rows)
    harmed = -(-HARM_DRAWS // rows)
    assert blocks > 1
    (total,) = {s[2] for s in stages if s[0] == "gaussian" and len(s) == 3}
    assert total == blocks * len(DOCUMENTS) + harmed


def test_a_cancelled_run_stops_inside_a_pass_and_leaves_the_model_whole(sessions):
    """Between two blocks of one text, not only between texts; then the same numbers as before."""

    class Stop(BaseException):
        pass

    request = AblationRequest(experiment_id="both", prompt=PROMPT, draws=2, controls=("gaussian",))
    whole = ablation.run(request, sessions["both"])
    heard = []
    ablation.run(request, sessions["both"], progress=lambda *stage: heard.append(stage))
    assert heard.count(("gaussian", 0, 1)) > 2 + sessions["both"].loaded.n_layers

    for number in range(len(heard)):
        left = [number]

        def report(*stage, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Stop

        with pytest.raises(Stop):
            ablation.run(request, sessions["both"], progress=report)
        assert not ONE_TRACE.locked()
    blocks = [sessions["both"].loaded.block(layer) for layer in (0, 1)]
    assert not any(block._forward_pre_hooks for block in blocks)
    again = ablation.run(request, sessions["both"])
    assert replace(again, seconds=()) == replace(whole, seconds=())


def test_request_and_result_survive_json(run_live):
    result = run_live("both", picked=((0, 101),), layers=(0,), dose_tops=(1,), neutral=DOCUMENTS)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert AblationResult.from_json(json.loads(text)) == result


def test_running_request_is_cancelled_at_the_next_report(sessions):
    class Stop(BaseException):
        pass

    def report(stage, *part):
        if stage == "gaussian":
            raise Stop

    request = AblationRequest(experiment_id="both", prompt=PROMPT, draws=2)
    with pytest.raises(Stop):
        conditions.run_conditions(request, sessions["both"], report, lambda **message: None)
    again = ablation.run(request, sessions["both"])
    assert again.tuned.kl > 0  # the model is whole and the lock is free
