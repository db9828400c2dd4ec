"""What the ablation page makes of results: picture, tables, uploads, what is told while it runs."""

import re
from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lib.ablation import AblationRequest
from lib.ablation.catalogue import Offered
from lib.ablation.conditions import SCORING
from lib.ablation.controls import HARM_DRAWS
from lib.ablation.limits import CLASSES
from lib.ablation.outcome import DocumentScore
from lib.ablation.progress import Progress
from lib.evidence import causal, sentence, wording
from lib.figures.ablation import Evidence, Span, Strip, evidence
from lib.figures.ablation_tokens import by_token
from lib.metrics.intervals import Interval
from lib.ui import (
    ablation_bar,
    ablation_evidence,
    ablation_meaning,
    ablation_partial,
    ablation_prompt,
    ablation_tables,
    ablation_words,
)
from lib.ui.ablation_texts import TextError, read_file
from lib.ui.definitions import DEFINITIONS
from tests.ablation.bundles import PROMPT, SKIP

TEXTS = (PROMPT, "Stand aside and let the noise go by; it was never about you.")


def test_the_picture_holds_every_draw_and_the_treated_line():
    strips = [Strip("noise", (-0.2, 0.0, 0.1), 0.1), Strip("later")]
    figure = evidence(Evidence(Span(0.3, 0.2, 0.4), Span(0.5), strips))
    assert list(figure.layout.yaxis.ticktext) == ["treated", "full patch", "noise", "later"]
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["noise"].x) == [-20.0, 0.0, 10.0]
    assert list(by_name["noise, 97.5th percentile"].x) == [10.0, 10.0]
    assert len(by_name["later"].x) == 0
    assert by_name["treated"].x[0] == 30.0
    assert by_name["treated"].error_x.arrayminus[0] == pytest.approx(10)
    lines = sorted(shape.x0 for shape in figure.layout.shapes if shape.type == "line")
    assert lines == [0, 30.0]
    (band,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (band.x0, band.x1) == (20.0, 40.0)
    assert not any("n =" in trace.hovertemplate for trace in figure.data)


def test_the_pointer_tells_on_how_much_text_every_point_stands(run_live):
    verdict = causal.judge(run_live("both", documents=TEXTS, top=6, draws=3))
    figure = evidence(ablation_evidence.picture(verdict))
    known = f"<br>n = {len(TEXTS)} documents, {verdict.tokens:,} predicted tokens<extra>"
    assert len(figure.data) == 2 + 2 * len(verdict.controls)
    assert all(known in trace.hovertemplate for trace in figure.data)


def test_rows_of_the_picture_lie_where_their_labels_are():
    figure = evidence(Evidence(Span(0.3), Span(0.5), [Strip("noise", (0.1,), 0.1)]))
    places = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    by_name = {trace.name: trace for trace in figure.data}
    assert by_name["treated"].y0 == places["treated"]
    assert by_name["full patch"].y0 == places["full patch"]
    assert abs(by_name["noise"].y[0] - places["noise"]) < 0.5


def test_tables_hold_the_verdicts_numbers(run_live):
    result = run_live("both", documents=TEXTS, top=6)
    verdict = causal.judge(result)
    rows = {row["run"]: row for row in ablation_tables.outcomes(result, verdict).to_dicts()}
    assert rows["base"]["share"] == 100
    assert rows["tuned"]["share"] == 0
    assert rows["treated"]["share_low"] == pytest.approx(100 * verdict.share.low, abs=1e-9)
    noise = next(one for one in verdict.controls if one.control == "gaussian")
    assert rows["Gaussian noise"]["p"] == noise.p
    assert rows["Gaussian noise"]["percentile"] == pytest.approx(100 * noise.percentile, abs=1e-9)
    edits = ablation_tables.edits(ablation_tables.edited(result))
    (treated,) = edits.filter(run="treated", layer=1).to_dicts()
    edit = next(e for e in result.treated.edits if e.layer == 1)
    assert treated["norm"] == pytest.approx(edit.norm)
    assert treated["removed"] == pytest.approx(100 * edit.removed, abs=1e-9)
    one = causal.judge(run_live("both", top=6))
    told = ablation_tables.outcomes(run_live("both", top=6), one)
    assert set(told["beaten"].drop_nulls()) == {"no interval"}


def test_the_tables_round_as_the_sentence_does():
    for share in np.linspace(-0.0999, 0.0999, 2_001):
        (row,) = [ablation_tables._span(Interval(float(share), None, None))]
        shown = f"{row['share']:.1f} %".replace("-", "\u2212")
        assert shown.replace("0.0 %", "0 %") == wording.percent(float(share)).replace(
            "0.0 %", "0 %"
        )


def test_agreement_has_its_n_and_an_interval_over_documents(run_live):
    result = run_live("both", documents=TEXTS, neutral=TEXTS[:2], prompt_limit=50)
    told = ablation_words.harm(result)
    tokens = [d.tokens for d in result.tuned.documents]
    assert f"n = {sum(tokens)} tokens of {len(TEXTS)} texts" in told
    shares = [d.agree / d.tokens for d in result.tuned.documents]
    low, high = (float(v) for v in re.findall(r"95 % ([\d.]+) to ([\d.]+)", told)[0])
    assert 100 * min(shares) - 0.1 <= low <= 100 * result.tuned.agreement + 0.1
    assert 100 * result.tuned.agreement - 0.1 <= high <= 100 * max(shares) + 0.1
    spread = (DocumentScore(1.0, 10, 0), DocumentScore(1.0, 10, 10), DocumentScore(1.0, 20, 10))
    wide = replace(result.tuned, documents=spread)
    assert ablation_words.agreement(wide) == "50.0 % (95 % 0.0 to 100.0)"
    assert f"on {100 * result.tuned.agreement:.1f} % (95 %" in told
    assert "2 neutral texts, up to 50 tokens of each; no interval: only means are kept" in told
    one = ablation_words.harm(run_live("both"))
    assert "of 1 text; no interval: one text says nothing about others" in one
    assert "95 %" not in one


def event(name, **more):
    return {"event": "condition", "name": name, **more}


def test_the_bar_never_goes_back_and_moves_within_a_block_of_draws():
    request = AblationRequest(
        experiment_id="x", prompt="p", draws=20, controls=("gaussian",), dose_strengths=(0.5, 1.0)
    )
    told, seen = [], []

    def at(stage, done, total):
        seen.append(ablation_bar.share(request, standing(stage, done, total), told))

    for stage in ("base and tuned", ablation_bar.SCORING):
        for done in (0, 1, 2):
            at(stage, done, 3)
    told += [event("base"), event("tuned")]
    for stage in ("treated", "ceiling"):
        at(stage, 0, 3)
        told.append(event(stage))
    for done in range(3):
        at("gaussian", done, 3)
    told += [event("gaussian", draw=n) for n in range(20)]
    at("dose", 0, 3)
    at("dose", 2, 3)
    told += [event("dose", strength=s, top=32) for s in (0.5, 1.0)]
    at("dose", 3, 3)
    assert seen == sorted(seen)
    assert ablation_bar.SCORING == SCORING  # the page imports no torch, so it names it itself
    within = seen[8:11]
    assert within[1] - within[0] == pytest.approx(20 / 3 / 26)
    assert seen[-1] == 1


def standing(stage, done, total):
    return Progress("running", 0, stage, "", 1.0, None, done=done, total=total)


def test_stages_are_told_in_the_readers_words():
    words = ablation_words.stages(standing("ceiling", 1, 3).words)
    assert words == "running: full patch, 1 of 3"
    assert ablation_words.counted(1, "run") == "1 run"
    assert ablation_words.counted(2_000, "run") == "2,000 runs"


def so_far(request, events):
    return ablation_partial.partial(request, ablation_partial.told(events))


def test_what_was_told_makes_the_result_that_comes_in_the_end(sessions):
    from lib import ablation

    request = AblationRequest(
        experiment_id="both", documents=TEXTS, top=4, draws=2, dose_strengths=(0.5,), dose_tops=(2,)
    )
    events = []
    result = ablation.run(request, sessions["both"], tell=lambda **m: events.append(m))
    assert len(events) == ablation_partial.expected(request)
    told = so_far(request, events)
    assert told.treated == result.treated
    assert told.dose == result.dose
    assert [d.condition for d in told.controls] == [d.condition for d in result.controls]
    assert so_far(request, events[:3]) is None
    half = so_far(request, events[:7])
    assert len(half.controls) == 3
    assert causal.judge(half).share == causal.judge(result).share


def test_edits_are_shown_as_soon_as_the_treated_run_is_told(sessions):
    from lib import ablation
    from lib.ui import ablation as views

    request = AblationRequest(experiment_id="both", documents=TEXTS, top=4, draws=1)
    events = []
    result = ablation.run(request, sessions["both"], tell=lambda **m: events.append(m))

    def app(request, events):
        from lib.ui import ablation

        ablation._so_far(request, events)

    def shown(count):
        args = {"request": request, "events": events[:count]}
        page = AppTest.from_function(app, kwargs=args, default_timeout=60).run()
        assert not page.exception
        return page.dataframe

    assert views.definitions("documents").count("**Difference removed**") == 1
    assert len(shown(2)) == 0  # base and tuned
    (table,) = shown(3)
    assert table.value["run"].tolist() == ["treated"] * 2
    assert table.value["norm"].tolist() == pytest.approx([e.norm for e in result.treated.edits])
    (table,) = shown(5)
    assert set(table.value["run"]) == {"treated", "full patch", "random features"}


def test_controls_show_the_damage_of_their_first_draws(run_live):
    result = run_live("both", documents=TEXTS, neutral=TEXTS[:1], top=4, draws=HARM_DRAWS + 1)
    rows = ablation_tables.outcomes(result, causal.judge(result)).to_dicts()
    shown = next(row for row in rows if row["run"] == "Gaussian noise")["nll"]
    drawn = [d.condition.neutral_nll for d in result.controls if d.control == "gaussian"]
    assert shown == pytest.approx(sum(drawn[:HARM_DRAWS]) / HARM_DRAWS)
    assert drawn[HARM_DRAWS] is None
    assert "first four draws" in DEFINITIONS["Share undone"]
    assert HARM_DRAWS == 4


def test_which_shared_features_are_taken_is_said():
    def offered(classes):
        n = 3
        numbers = np.ones(n)
        return Offered(np.arange(n), numbers, numbers, np.zeros(n, int), classes=classes)

    shared, new = (CLASSES.index(name) for name in ("shared", "new"))
    none = ablation_meaning.which(7, offered(np.full(3, new)), 2, 0)
    assert "none of the 3 that the live bundle carries at layer 7 is classed as shared" in none
    assert none.endswith("so the 2 most frequent of all classes are taken")
    some = offered(np.array([shared, new, shared]))
    assert ablation_meaning.which(7, some, 2, 0) == "the 2 most frequent shared ones"
    assert ablation_meaning.which(7, some, 3, 0).startswith("the 2 most frequent shared ones (the")
    assert ablation_meaning.which(7, some, 3, 1) == "the 1 picked at layer 7"
    assert "does not name classes" in ablation_meaning.which(7, offered(None), 2, 0)


def test_strip_and_lines_are_of_the_predicted_token(run_live):
    result = run_live("both", top=8)
    lines = ablation_prompt.lines(result)
    draws = [draw.condition.kl_per_token[SKIP] for draw in result.controls]
    assert lines["control"][:SKIP] == [None] * SKIP
    assert lines["control"][SKIP] == pytest.approx(sum(draws) / len(draws))
    figure = by_token(lines, result.tokens)
    treated = next(line for line in figure.data if line.name == "treated")
    assert list(treated.y) == list(result.treated.kl_per_token[SKIP:])
    assert treated.x[0] == SKIP  # made at position 4 (BOS = 0), it is of the prompt's token 4
    assert treated.customdata[-1] == " (next token)"
    assert "KL to base: tuned" in ablation_prompt.strip(result)


def test_dose_panels_follow_the_request(run_live):
    result = run_live("both", documents=TEXTS, top=4, dose_strengths=(0.0, 1.0), dose_tops=(0, 4))
    panels = ablation_evidence.doses(result)
    assert [name for name, _ in panels] == ["strength", "features per depth"]
    for _, points in panels:
        assert points[0].share.value == 0
        assert points[1].share.value == pytest.approx(result.treated.share_reversed)
        assert points[1].share.low is not None
    assert ablation_evidence.doses(replace(result, dose=())) == []


def test_words_speak_of_features(run_live):
    told = sentence(causal.judge(run_live("both", top=6)))
    assert "these features" in told
    assert "latent" not in told


def test_uploads_are_read_as_documents():
    assert read_file("a.txt", b"one\r\n\n  two \n") == ["one", "two"]
    assert read_file("a.txt", b"\xef\xbb\xbfone") == ["one"]
    jsonl = '{"text": "a\\nb", "id": 3}\n\n{"text": "c"}'
    assert read_file("a.jsonl", jsonl.encode()) == ["a\nb", "c"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.txt", b" \n\n", "no text"),
        ("a.txt", b"x" * 2_000_001, "2,000,001 characters"),
        ("a.jsonl", b'{"text": "a"}\n{nonsense', "Line 2 of the file is not JSON"),
        ("a.jsonl", b"[" * 100_000, "Line 1 of the file is not JSON"),
        ("a.jsonl", b'{"text": 7}', 'no object with a "text"'),
        ("a.jsonl", b'["text"]', 'no object with a "text"'),
        (
            "a.jsonl",
            b'{"text": "ok"}\n\n{"text": "bad \\ud800 end"}',
            "Line 3 .*half of a surrogate",
        ),
        ("a.jsonl", b'{"text": "ok"}\n\nno', "Line 3 of the file is not JSON"),
        ("a.txt", b"one\ntwo \xed\xa0\x80", "Line 2 of the file is not UTF-8"),
    ],
)
def test_a_hostile_upload_is_explained(name, content, told):
    with pytest.raises(TextError, match=told):
        read_file(name, content)
