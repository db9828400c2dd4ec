"""Verdicts of an ablation: numbers worked out by hand, every way to fail, and how often by chance."""

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from lib import paths
from lib.ablation.outcome import Condition, DocumentScore, Draw, Edit
from lib.ablation.request import AblationRequest, AblationResult
from lib.evidence import judge, sentence
from lib.evidence.causal import norm_ratio
from lib.evidence.levels import shares_of
from lib.evidence.wording import extra_digits, percent

SMALL = 400
"""Resamples, where the number of them is not the point."""


def run(name, sums, tuned, norm=1.0, tokens=100):
    scores = tuple(DocumentScore(float(s), tokens, tokens // 2) for s in sums)
    share = 1 - sum(sums) / sum(tuned) if sum(tuned) else None
    edits = (Edit(7, norm, 2.0, None),) if norm is not None else ()
    kl = float(sum(sums)) / (tokens * len(scores)) if scores else 0.0
    return Condition(name, kl, (), scores, share, 0.5, edits=edits)


def ablation(tuned, treated, ceiling, controls, *, norms=None, intervention="pair_clamp"):
    """controls: name -> one list of KL sums per draw; norms: name -> edit norm (treated has 1)."""
    norms = norms or {}
    texts = tuple(f"document {i}" for i in range(len(tuned))) or ("x",)
    request = AblationRequest(
        experiment_id="e", documents=texts, intervention=intervention, controls=tuple(controls)
    )
    draws = tuple(
        Draw(name, i, (), run(name, sums, tuned, norms.get(name, 1.0)))
        for name, table in controls.items()
        for i, sums in enumerate(table)
    )
    conditions = {
        "base": run("base", [0.0] * len(tuned), tuned, None),
        "tuned": run("tuned", tuned, tuned, None),
        "treated": run("treated", treated, tuned),
        "ceiling": run("ceiling", ceiling, tuned),
    }
    return AblationResult(
        request, "tiny-llama", "mlp", (), (), **conditions, controls=draws, dose=(), seconds=(),
        device="cpu",
    )  # fmt: skip


TUNED = [10.0, 20.0, 30.0, 40.0, 10.0, 20.0, 30.0, 40.0]  # 200 nats
CLAMPED = [6.0, 13.0, 18.0, 25.0, 6.5, 12.0, 19.0, 25.0]  # 124.5 left: 37.75 % undone
PATCHED = [0.25 * t for t in TUNED]  # 75 % undone in every resample


def scaled(*factors):
    """Draws that leave this factor of KL on every document."""
    return [[f * t for t in TUNED] for f in factors]


TWENTY = scaled(*np.linspace(0.95, 1.14, 20))
"""Shares 0.05, 0.04, ..., -0.14."""


# ---------------------------------------------------------------- by hand


def test_shares_p_and_percentile_by_hand():
    draws = scaled(*[1.0] * 18, 0.7, 0.6)  # shares 0 (18 times), 0.3, 0.4
    found = judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": draws}), resamples=SMALL)
    (control,) = found.controls
    assert found.share.value == pytest.approx(0.3775)
    assert found.ceiling.value == pytest.approx(0.75)
    assert found.over_ceiling.value == pytest.approx(0.3775 / 0.75)
    assert control.mean.value == pytest.approx((0.3 + 0.4) / 20)
    assert control.advantage.value == pytest.approx(0.3775 - 0.035)
    assert control.p == pytest.approx(2 / 21)  # one draw of twenty is as large
    assert control.percentile == pytest.approx(0.4)  # 19 of 20 are 95 %: only the largest will do
    assert not control.beaten
    assert (found.documents, found.tokens) == (8, 800)


def test_the_percentile_of_more_draws_is_the_smallest_that_is_high_enough():
    factors = [1 - k / 1000 for k in range(1, 41)]  # shares 0.001 .. 0.040
    (control,) = judge(
        ablation(TUNED, CLAMPED, PATCHED, {"gaussian": scaled(*factors)}), resamples=SMALL
    ).controls
    assert control.percentile == pytest.approx(0.039)  # 39 of 40 = 97.5 % do not exceed it
    assert control.p == pytest.approx(1 / 41)
    assert control.beaten


def test_equal_draws_count_against_the_treated():
    draws = [CLAMPED, *scaled(*[1.0] * 19)]
    (control,) = judge(
        ablation(TUNED, CLAMPED, PATCHED, {"shuffled": draws}), resamples=SMALL
    ).controls
    assert control.p == pytest.approx(2 / 21)


def test_document_interval_agrees_with_listing_every_resample():
    """Three documents have 27 equally likely resamples: their exact 2.5th and 97.5th percentiles."""
    tuned, treated = [10.0, 20.0, 30.0], [2.0, 12.0, 27.0]
    result = ablation(tuned, treated, [0.0] * 3, {"gaussian": [tuned]})
    shares = [
        1 - sum(treated[i] for i in chosen) / sum(tuned[i] for i in chosen)
        for chosen in product(range(3), repeat=3)
    ]
    expected = np.quantile(shares, [0.025, 0.975], method="inverted_cdf")
    found = judge(result, resamples=20_000).share
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.value == pytest.approx(1 - 41 / 60)


def test_both_levels_add_up():
    """Variance of the mean over draws = that over documents, and, of equal documents, that of draws."""
    equal = [10.0] * 8
    draws = [[10.0 * f] * 8 for f in (0.5, 1.5)]  # shares 0.5 and -0.5: no spread over documents
    result = ablation(equal, [5.0] * 8, [0.0] * 8, {"gaussian": draws})
    shares = shares_of(result, 20_000, 0)
    table = np.stack([shares.of(d.condition) for d in result.controls])
    rows = shares.mean_over_draws(table, "gaussian")[1:]
    # two draws with replacement: mean 0.5, 0, -0.5 with chances 1/4, 1/2, 1/4
    values, counts = np.unique(rows.round(9), return_counts=True)
    assert values.tolist() == [-0.5, 0.0, 0.5]
    assert counts / len(rows) == pytest.approx([0.25, 0.5, 0.25], abs=0.02)
    same = np.stack([table[0], table[0]])
    assert shares.mean_over_draws(same, "gaussian") == pytest.approx(table[0])


def test_resamples_are_paired_between_runs():
    """Where every document is undone by the same share, no resample can change ratio or share."""
    result = ablation(TUNED, *scaled(0.6, 0.2), {"gaussian": TWENTY})
    found = judge(result, resamples=SMALL)
    assert found.share == pytest.approx((0.4, 0.4, 0.4))
    assert found.over_ceiling == pytest.approx((0.5, 0.5, 0.5))


def test_seeds():
    result = ablation(TUNED, CLAMPED, PATCHED, {"gaussian": TWENTY})
    assert judge(result, resamples=SMALL) == judge(result, resamples=SMALL)
    other = judge(result, resamples=SMALL, seed=1)
    assert other.share.value == judge(result, resamples=SMALL).share.value
    assert other.controls[0].mean.low != judge(result, resamples=SMALL).controls[0].mean.low


def test_verdict_is_plain_data():
    found = judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": TWENTY}), resamples=SMALL)
    back = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert back["share"] == list(found.share)


# ---------------------------------------------------------------- the claim, and all against it


def claims(found):
    text = sentence(found)
    assert found.claim == ("carry part" in text)
    assert found.claim != ("No causal claim" in text)
    return text


def test_a_claim_names_effect_interval_n_ceiling_and_strongest_control():
    controls = {"gaussian": scaled(*[1.3] * 20), "random_latents": TWENTY}
    found = judge(ablation(TUNED, CLAMPED, PATCHED, controls))
    assert found.claim
    text = claims(found)
    assert "**Clamping these features to base undoes 38 % of the output change**" in text
    assert "n = 8 documents, 800 predicted tokens, 95 % 37 % to " in text
    assert "undoes 75 %; the edit reaches 50 % of that, 95 % 49 % to " in text
    assert "control, random features, undoes 5.0 % at the 97.5th percentile of its draws" in text
    assert "largest p over the controls of 20 draws each: 0.048" in text
    assert found.p == pytest.approx(1 / 21)


def test_a_single_control_that_is_not_beaten_is_named():
    controls = {"gaussian": TWENTY, "real_difference": scaled(*[1.0] * 19, 0.62)}
    found = judge(ablation(TUNED, CLAMPED, PATCHED, controls))
    assert found.against == (("not_beaten", "real_difference"),)
    assert "is not above differences of real activations." in claims(found)


def test_it_is_the_lower_end_that_has_to_be_above():
    """37.75 % is above a control's 37.5 %, but not its interval."""
    found = judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": scaled(*[0.625] * 20)}))
    assert found.share.value > found.controls[0].percentile > found.share.low
    assert found.against == (("not_beaten", "gaussian"),)
    claims(found)


def test_too_few_draws():
    found = judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": TWENTY[:19]}))
    assert found.against == (("unfair", "gaussian"),)
    assert found.controls[0].beaten
    assert "Gaussian noise: 19 draws, fewer than 20" in claims(found)


def test_a_reason_that_several_controls_share_is_told_once():
    few = {"gaussian": TWENTY[:3], "random_latents": TWENTY[:3]}
    text = claims(judge(ablation(TUNED, CLAMPED, PATCHED, few)))
    assert text.count("fewer than 20") == 1
    assert "every control: 3 draws, fewer than 20" in text
    some = judge(ablation(TUNED, CLAMPED, PATCHED, {**few, "shuffled": TWENTY}))
    assert "Gaussian noise and random features: 3 draws, fewer than 20" in claims(some)


def test_the_opposite_edit_needs_no_second_run():
    controls = {"gaussian": TWENTY, "sign_flipped": scaled(1.6)}
    found = judge(ablation(TUNED, CLAMPED, PATCHED, controls))
    assert found.controls[1].p is None
    assert found.p == pytest.approx(1 / 21)
    assert found.claim
    beaten_by = judge(ablation(TUNED, CLAMPED, PATCHED, {**controls, "sign_flipped": scaled(0.5)}))
    assert "is not above the edits with signs at random" in claims(beaten_by)
    alone = judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": scaled(1.6)}))
    assert alone.against == (("unfair", "gaussian"),)


def test_one_document_has_no_interval():
    found = judge(
        ablation([10.0], [2.0], [1.0], {"gaussian": [[11.0]] * 20}),
    )
    assert found.share == (0.8, None, None)
    assert found.over_ceiling == (pytest.approx(0.8 / 0.9), None, None)
    assert found.interval_missing == "one document says nothing about others"
    assert found.controls[0].mean.low is None
    text = claims(found)
    assert "n = 1 document, 100 predicted tokens)" in text
    assert "the interval is not defined because one document says nothing about others" in text
    assert "not above" not in text


@pytest.mark.parametrize(("documents", "claim"), [(5, False), (6, True)])
def test_a_handful_of_documents_is_too_few(documents, claim):
    tuned, treated = TUNED[:documents], CLAMPED[:documents]
    draws = [[1.1 * t for t in tuned]] * 20
    found = judge(ablation(tuned, treated, [0.0] * documents, {"gaussian": draws}))
    assert found.claim is claim
    assert ("5 documents are too few" in claims(found)) is not claim


def test_a_ceiling_under_one_per_cent():
    found = judge(ablation(TUNED, CLAMPED, scaled(0.991)[0], {"gaussian": TWENTY}))
    assert found.over_ceiling is None
    assert "less than 1 %" in found.over_ceiling_missing
    text = claims(found)
    assert (
        "undoes 0.9 %: under 1 %, too little to hold the edit against. Edit at other depths" in text
    )
    assert "a full patch of the residual stream what those depths could undo." in text
    negative = judge(ablation(TUNED, CLAMPED, scaled(2.75)[0], {"gaussian": TWENTY}))
    assert negative.over_ceiling is None
    assert "undoes \u2212175 %: even they lead away from base, so the edit" in sentence(negative)


def test_a_ceiling_that_is_not_sure_to_be_above_one_per_cent():
    ceiling = [t * f for t, f in zip(TUNED, [0.4, 1.3, 0.5, 1.2] * 2, strict=True)]
    found = judge(ablation(TUNED, CLAMPED, ceiling, {"gaussian": TWENTY}))
    assert 0.01 < found.ceiling.value < 0.2
    assert found.over_ceiling.low is None
    assert "of the resamples" in found.over_ceiling_missing
    assert "no interval, because in" in sentence(found)


def test_a_treated_run_that_makes_it_worse():
    worse = [1.2 * t for t in TUNED]
    found = judge(ablation(TUNED, worse, PATCHED, {"gaussian": scaled(*[1.5] * 20)}))
    assert found.controls[0].beaten
    assert found.against == (("no_effect", ""),)
    text = claims(found)
    assert "undoes nothing of the output change: it moves the predictions further from base" in text
    assert "by 20 % of it** (share undone \u221220 %, 95 % \u221220 % to \u221220 %; n = 8" in text
    assert "No causal claim**: the edit undoes nothing." in text


def test_an_interval_that_reaches_zero():
    mixed = [t * f for t, f in zip(TUNED, [0.3, 1.4, 0.6, 1.1] * 2, strict=True)]
    found = judge(ablation(TUNED, mixed, PATCHED, {"gaussian": scaled(*[3.0] * 20)}))
    assert found.share.value > 0
    assert found.against == (("reaches_zero", ""),)
    assert "the interval of the share reaches 0" in claims(found)
    assert "undoes no share of the output change that can be told from 0** (estimate" in claims(
        found
    )


def test_a_negative_share_whose_interval_holds_zero_establishes_nothing():
    mixed = [t * f for t, f in zip(TUNED, [0.6, 1.5, 0.7, 1.4] * 2, strict=True)]
    found = judge(ablation(TUNED, mixed, PATCHED, {"gaussian": scaled(*[3.0] * 20)}))
    assert found.share.value < 0 < found.share.high
    text = claims(found)
    value, low, high = (percent(v) for v in found.share)
    assert f"that can be told from 0** (estimate {value}, 95 % {low} to {high}; n = 8" in text
    assert "No causal claim**: the interval of the share reaches 0." in text
    assert "further from base" not in text


def test_two_compared_numbers_that_would_look_equal_get_more_digits():
    assert extra_digits(0.0324, 0.0317) == 1
    assert extra_digits(0.0996, 0.1) == 1  # 10.0 % and 10 %
    assert extra_digits(0.32, 0.031) == extra_digits(0.2, 0.2) == 0
    assert extra_digits(0.2, 0.20001) == 3
    assert extra_digits(0.2, 0.2 + 1e-9) == 0
    clamped = [0.9676 * t for t in TUNED]
    found = judge(ablation(TUNED, clamped, PATCHED, {"gaussian": scaled(*[0.9683] * 20)}))
    text = sentence(found)
    assert found.claim
    assert "95 % 3.24 % to 3.24 %" in text
    assert "undoes 3.17 % at the 97.5th percentile" in text


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        (0.03, "only 3 % as large"),
        (2.5, "2.5 times as large"),
        (1.05, ""),
        (0.0, "only 0 % as large"),
    ],
)
def test_a_control_of_another_edit_size_is_no_comparison(norm, words):
    result = ablation(
        TUNED, CLAMPED, PATCHED, {"random_latents": TWENTY}, norms={"random_latents": norm}
    )
    found = judge(result)
    assert found.controls[0].norm_ratio == pytest.approx(norm)
    assert found.claim is (not words)
    assert words in claims(found)


def test_the_depth_with_the_largest_mismatch_counts():
    def at(*norms):
        return dataclasses.replace(
            run("x", TUNED, TUNED), edits=tuple(Edit(i, n, 1.0, None) for i, n in enumerate(norms))
        )

    draws = [Draw("gaussian", i, (), at(2.0, 1.0 + i, 5.0)) for i in range(2)]  # means 2, 1.5, 5
    assert norm_ratio(at(2.0, 0.5, 0.0), draws) == pytest.approx(3)  # 1, 3, none
    assert norm_ratio(at(8.0, 0.5, 5.0), draws) == pytest.approx(0.25)  # a quarter, 3, 1
    assert norm_ratio(at(), draws) is None
    assert norm_ratio(at(0.0), draws) is None


def test_no_controls():
    found = judge(ablation(TUNED, CLAMPED, PATCHED, {}, intervention="scale_lora"))
    assert found.against == (("no_controls", ""),)
    assert found.p is None
    text = claims(found)
    assert text.startswith("**Scaling the adapter undoes 38 %")
    assert "No causal claim**: no control was run." in text


def test_equal_models():
    zeros = [0.0] * 8
    found = judge(ablation(zeros, zeros, zeros, {"gaussian": [zeros] * 20}))
    assert found.share is found.ceiling is found.over_ceiling is None
    assert not found.claim
    assert sentence(found) == (
        "**Base and tuned predict exactly the same here: nothing to undo** "
        "(n = 8 documents, 800 predicted tokens)."
    )


def test_what_cannot_be_judged():
    with pytest.raises(ValueError, match="no document"):
        judge(ablation([], [], [], {}))
    with pytest.raises(ValueError, match="gaussian draw 0 and tuned did not score the same tokens"):
        judge(ablation(TUNED, CLAMPED, PATCHED, {"gaussian": [TUNED[:5]]}))
    with pytest.raises(ValueError, match=r"KL of treated on document 2 is inf"):
        judge(ablation(TUNED, [1.0, np.inf, *CLAMPED[2:]], PATCHED, {"gaussian": TWENTY}))


def test_no_torch_is_imported():
    code = "import sys, lib.evidence; sys.exit(bool({'torch', 'streamlit'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False)
    assert done.returncode == 0


# ---------------------------------------------------------------- how often by chance


def simulated(rng, effect, documents=12, draws=20):
    """One study: every edit has its own true share (sd 0.1) and document noise (sd 0.15)."""
    tuned = rng.gamma(4.0, 10.0, documents)

    def edit(mean):
        share = mean + 0.1 * rng.standard_normal() + 0.15 * rng.standard_normal(documents)
        return list((1 - share) * tuned)

    controls = {
        name: [edit(0.0) for _ in range(draws)] for name in ("random_latents", "real_difference")
    }
    return ablation(list(tuned), edit(effect), [0.1 * t for t in tuned], controls)


def rates(effect, studies=200):
    rng = np.random.default_rng(5)
    found = [judge(simulated(rng, effect), resamples=SMALL) for _ in range(studies)]
    assert all(v.claim == (not v.against) for v in found)
    claimed = Fraction(sum(v.claim for v in found), studies)
    return float(claimed), np.mean([v.controls[0].p <= 0.05 for v in found])


def test_under_the_null_a_claim_is_rare():
    """The treated edit is one more draw of the controls: the rank p alone allows 1 in 21."""
    claimed, significant = rates(0.0)
    assert claimed <= 0.02
    assert 0.005 < significant < 0.1


def test_a_real_effect_is_found():
    assert rates(0.6, studies=60)[0] > 0.9
