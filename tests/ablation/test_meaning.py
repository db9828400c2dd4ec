"""Latents ablated one at a time in both models: raw hooks, numbers by hand, what is not defined."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from lib import paths
from lib.ablation import AblationError
from lib.ablation.arithmetic import codes, own_codes
from lib.ablation.correlations import correlate, pearson_log_kl, pearson_log_potency, spearman_kl
from lib.ablation.meaning import LatentShift, MeaningRequest, MeaningResult, Side, compare
from lib.metrics.divergence import kl_per_token
from tests.ablation.small import make

DOCUMENTS = ("The quiet mind asks for little.", "Rain fell on the river.", "Buy two, get one free!")
SKIP = 4


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return make(tmp_path_factory.mktemp("live"), "both")


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """An adapter scaled to almost nothing and a dictionary with equal sides, one of them dead."""

    def equal(slice_):
        slice_["decoder"][:, 1] = slice_["decoder"][:, 0]
        slice_["thresholds"][3] = 1e6
        return slice_

    return make(tmp_path_factory.mktemp("live"), "same", change=equal, lora_alpha=1e-9)


def ask(name="both", **fields):
    return MeaningRequest(**{"experiment_id": name, "documents": DOCUMENTS, "layer": 1, **fields})


# ---------------------------------------------------------------- against raw hooks


def by_hooks(session, text, layer, latent, code, *, base):
    """Sum of KL(ablated || unablated) and of |a d|^2 of one model, with plain PyTorch hooks."""
    loaded = session.loaded
    ids = torch.tensor([[loaded.tokenizer.bos_token_id, *session.encode(text)]])
    part = session.slices[layer].take((latent,))
    seen = {}

    def run(as_base, change=None):
        def hook(module, args, output):
            seen[as_base] = output[0].clone()
            return output if change is None else output - change

        handle = loaded.hooked(layer, "mlp").register_forward_hook(hook)
        with torch.no_grad():
            if as_base:
                with loaded.model.disable_adapter():
                    logits = loaded.model(ids).logits[0]
            else:
                logits = loaded.model(ids).logits[0]
        handle.remove()
        return logits[SKIP:]

    plain = {side: run(side) for side in (True, False)}
    own = seen[base]
    active = codes(seen[False], seen[True], part) if code == "paired" else own_codes(own, part)
    change = active * part.decoder[0, 0 if base else 1]
    change[:SKIP] = 0
    kl = kl_per_token(run(base, change), plain[base])
    return float(kl.double().sum()), float(change.double().square().sum())


@pytest.mark.parametrize("code", ["paired", "own"])
@pytest.mark.parametrize("layer", [0, 1])
def test_shifts_are_those_of_raw_hooks(session, layer, code):
    result = compare(ask(layer=layer, code=code, latents=(105, 100, 117)), session)
    assert [s.latent for s in result.shifts] == [105, 100, 117]
    assert result.tokens == tuple(len(text) + 1 - SKIP for text in DOCUMENTS)  # a byte tokenizer
    for shift in result.shifts:
        for base, side in ((True, shift.base), (False, shift.tuned)):
            for number, text in enumerate(DOCUMENTS):
                kl, edit = by_hooks(session, text, layer, shift.latent, code, base=base)
                assert side.kl[number] == pytest.approx(kl, rel=1e-3, abs=1e-6)
                assert side.edit[number] == pytest.approx(edit, rel=1e-4, abs=1e-9)
    assert sum(s.base.kl[0] for s in result.shifts) > 1e-3


def test_batches_change_nothing(session, monkeypatch):
    whole = compare(ask(), session)
    monkeypatch.setattr("lib.ablation.shifts.BATCH_TOKENS", 70)  # two latents at a time
    for one, other in zip(compare(ask(), session).shifts, whole.shifts, strict=True):
        assert one.tuned.kl == pytest.approx(other.tuned.kl, abs=1e-6)
        assert one.base.kl == pytest.approx(other.base.kl, abs=1e-6)


def test_equal_models_agree_perfectly_and_a_dead_latent_is_silent(same):
    result = compare(ask("same"), same)
    assert len(result.shifts) == 20
    assert result.silent >= 1
    dead = next(s for s in result.shifts if s.latent == 103)
    assert (dead.fires, sum(dead.base.kl), sum(dead.tuned.kl)) == (0, 0, 0)
    for found in (result.pearson, result.spearman, result.potency):
        assert found.value == pytest.approx(1, abs=1e-3)
        assert found.n <= 20 - result.silent
        assert found.missing == ""
        for ends in (found.over_latents, found.over_documents, found.over_both):
            assert ends == pytest.approx((1, 1), abs=0.02)


def test_decoders_with_nothing_in_common_agree_less(session, same):
    apart, alike = compare(ask(), session), compare(ask("same"), same)
    assert apart.potency.value < 0.9 < alike.potency.value
    total = sum(apart.tokens)
    first = apart.shifts[0]
    assert apart.mean_kl(first) == (sum(first.base.kl) / total, sum(first.tuned.kl) / total)


def test_the_default_takes_the_most_frequent_shared_latents(tmp_path):
    def classed(slice_):
        names = ["shared" if i % 2 else "new" for i in range(20)]
        return {**slice_, "frequency": torch.linspace(0.01, 0.2, 20), "classes": names}

    session = make(tmp_path, "classed", change=classed)
    result = compare(ask("classed", count=3), session)
    assert [s.latent for s in result.shifts] == [119, 117, 115]


def test_without_a_shared_latent_the_most_frequent_of_all_are_taken(tmp_path):
    def classed(slice_):
        frequency = torch.linspace(0.2, 0.01, 20)
        return {**slice_, "frequency": frequency, "classes": ["new"] * 20}

    session = make(tmp_path, "unshared", change=classed)
    assert session.offered[1].shared == []
    result = compare(ask("unshared", count=3), session)
    assert [s.latent for s in result.shifts] == [100, 101, 102]


# ---------------------------------------------------------------- statistics by hand


def shift(latent, base, tuned, edit=1.0):
    return LatentShift(
        latent, 9, Side(tuple(base), (edit,) * len(base)), Side(tuple(tuned), (edit,) * len(tuned))
    )


RNG = np.random.default_rng(0)
BASE = RNG.lognormal(sigma=1.5, size=(12, 5))
MANY = [shift(i, b, b * RNG.lognormal(sigma=0.8, size=5)) for i, b in enumerate(BASE)]


def totals(shifts):
    return (np.array([sum(getattr(s, side).kl) for s in shifts]) for side in ("base", "tuned"))


def test_values_agree_with_scipy():
    x, y = totals(MANY)
    assert pearson_log_kl(MANY, 0).value == pytest.approx(pearsonr(np.log(x), np.log(y))[0])
    assert spearman_kl(MANY, 0).value == pytest.approx(spearmanr(x, y)[0])
    potent = [shift(i, s.base.kl, s.tuned.kl, edit=1.0 + i) for i, s in enumerate(MANY)]
    per = np.log(5 * (1.0 + np.arange(12)))
    expected = pearsonr(np.log(x) - per, np.log(y) - per)[0]
    assert pearson_log_potency(potent, 0).value == pytest.approx(expected)
    assert pearson_log_potency(MANY, 0).value == pytest.approx(pearson_log_kl(MANY, 0).value)


def test_intervals_hold_the_value_and_both_levels_are_the_widest():
    found = pearson_log_kl(MANY, 0)
    for low, high in (found.over_latents, found.over_documents, found.over_both):
        assert low < found.value < high
    widths = [b - a for a, b in (found.over_documents, found.over_latents, found.over_both)]
    assert widths[2] > 0.95 * max(widths[:2])
    assert found == pearson_log_kl(MANY, 0) != pearson_log_kl(MANY, 1)


def test_interval_over_latents_covers_the_truth():
    """95 % intervals of 60 studies of correlation 0.8 over 40 latents; 50 of 60 by luck alone."""
    hits, rng = 0, np.random.default_rng(3)
    for _ in range(60):
        x = rng.standard_normal(40)
        y = 0.8 * x + 0.6 * rng.standard_normal(40)
        study = [
            shift(i, [np.exp(a)], [np.exp(b)]) for i, (a, b) in enumerate(zip(x, y, strict=True))
        ]
        low, high = pearson_log_kl(study, 0).over_latents
        hits += low <= 0.8 <= high
    assert hits >= 50


def test_row_by_row_and_what_is_unknown():
    a = np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 1.0, 1.0, 1.0], [1.0, np.nan, np.nan, 2.0]])
    b = np.array([[2.0, 4.0, 7.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    found = correlate(a, b)
    assert found[0] == pytest.approx(pearsonr([1, 2, 3], [2, 4, 7])[0])
    assert np.isnan(found[1:]).all()  # constant; two latents


def test_what_is_not_defined_says_why():
    two = pearson_log_kl(MANY[:2], 0)
    assert (two.value, two.n, two.over_latents) == (None, 2, None)
    assert "only 2 latents shift the predictions; 3 are needed" in two.missing
    assert "only 0 latents" in spearman_kl([], 0).missing
    flat = [shift(i, [1.0, 1.0], [1.0 + i, 2.0]) for i in range(5)]
    assert pearson_log_kl(flat, 0).value is None
    assert "shifted alike by every latent" in spearman_kl(flat, 0).missing
    single = pearson_log_kl([shift(s.latent, s.base.kl[:1], s.tuned.kl[:1]) for s in MANY], 0)
    assert single.value is not None and single.over_latents is not None
    assert (single.over_documents, single.over_both) == (None, None)
    assert single.missing == "1 document, and an interval needs at least 3"
    pair, three = ([shift(s.latent, s.base.kl[:n], s.tuned.kl[:n]) for s in MANY] for n in (2, 3))
    assert spearman_kl(pair, 0).over_both is None
    assert spearman_kl(pair, 0).missing == "2 documents, and an interval needs at least 3"
    assert spearman_kl(three, 0).over_both is not None


def test_a_latent_that_shifts_one_model_only_has_a_rank_but_no_logarithm():
    more = [*MANY, shift(99, [0.0] * 5, [1.0] * 5)]
    assert (pearson_log_kl(more, 0).n, spearman_kl(more, 0).n) == (12, 13)
    assert pearson_log_kl(more, 0).value == pearson_log_kl(MANY, 0).value


# ---------------------------------------------------------------- asked and answered


def test_request_and_result_survive_json(session):
    result = compare(ask(latents=(101, 102, 103, 104)), session)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert MeaningResult.from_json(json.loads(text)) == result
    assert MeaningRequest.from_json(json.loads(text)["request"]).id == result.request.id
    assert ask(code="own").id != ask().id


def test_cancel_between_batches(session):
    class Stop(BaseException):
        pass

    def progress(stage, done, total):
        if done == 1:
            raise Stop

    told = []
    with pytest.raises(Stop):
        compare(ask(), session, progress=progress, tell=lambda **m: told.append(m))
    assert told == [{"event": "document", "done": 1, "total": 3}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"documents": ()}, "at least one document"),
        ({"documents": ("a", " ")}, "none that is empty"),
        ({"documents": ("abc",)}, "document 1 has 3 tokens"),
        ({"layer": 9}, r"depth 9; offered: \[0, 1\]"),
        ({"latents": (4, 101)}, r"latents \[4\] at layer 1"),
        ({"latents": (101, 101)}, "named twice"),
        ({"count": 0}, "1 to 512"),
        ({"code": "other"}, "paired, own"),
        ({"skip_first": -1}, "0 or more"),
        ({"documents": ("x",) * 500, "prompt_limit": 256}, "lower prompt_limit"),
    ],
)
def test_requests_that_cannot_run_say_why(session, fields, message):
    with pytest.raises(AblationError, match=message):
        compare(ask(**fields), session)


def test_the_request_needs_no_torch():
    code = (
        "import sys\nfrom lib.ablation import correlations, meaning\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False)
    assert done.returncode == 0
