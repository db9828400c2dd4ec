"""The Lens page: its views on a small store, and the words and pictures behind them."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from lib.evidence.identity import Adapter, identify
from lib.evidence.ranking import Ranked, rank_corpora
from lib.figures import lens as lens_figure
from lib.figures.lens_dots import Dot, Strip, changes, search, similarities
from lib.figures.lens_matrix import Scores, matrix
from lib.lens.against import Row, against
from lib.lens.shift import Check, verdict
from lib.lens.similarity import Verdict
from lib.metrics.intervals import Interval
from lib.metrics.statistics import holm
from lib.ui import (
    definitions,
    lens,
    lens_grid,
    lens_identity,
    lens_ranks,
    lens_reads,
    lens_robustness,
    lens_steering,
    lens_swap,
    lens_texts,
    lens_words,
)
from tests.test_points_pages import opened
from tests.test_read import make

A, A1, B, C = "m.alpha.s0", "m.alpha.s1", "m.beta.s0", "m.gamma.s0"
CORPUS = {A: "alpha", A1: "alpha", B: "beta", C: "gamma"}
OWN = {"alpha": list(range(1, 11)), "beta": list(range(11, 21))}
HOSTILE = "<script>alert(1)</script>"
RUN = {
    "words": OWN["alpha"], "vocabulary": 1000, "reference": "no such text", "texts": 40,
    "corpus": "alpha", "layer": 2, "probe": "neutral",
}  # fmt: skip


def reading(position: int, tokens: list[str], words: list[int], **more: Any) -> dict[str, Any]:
    shares = [0.4 / 2**i for i in range(len(tokens))]
    row = {"layer": 2, "position": position, "reading": "lens", "scale": None}
    return row | {"ids": list(range(len(tokens))), "tokens": tokens, "shares": shares,
                  "words": words} | more  # fmt: skip


def rows_of(name: str) -> dict[str, list[dict[str, Any]]]:
    """All lens tables of one experiment; alpha's adapters read alpha's words, beta's reads neither."""
    own = {A: [1, 2], A1: [1, 3], B: [700, 701]}[name]
    tokens = [" virtue", ",", HOSTILE, "\n", " other"]
    read = [
        reading(0, tokens, [own[0], -1, -1, -1, 800], layer=layer) for layer in range(4)
    ] + [reading(1, tokens, [own[1], -1, -1, -1, own[0]])]  # fmt: skip
    read += [r | {"reading": "patchscope", "scale": 3.0} for r in read if r["layer"] == 2]
    read += [reading(-1, ["the"], [900], reading="bos")]
    if name == B:
        read += [reading(0, [" head"], [801], reading="base_head")]
    shifts = [
        {"check_name": check, "position": j, "measure": measure, "value": value,
         "low": value - 0.05, "high": value + 0.05, "shift": 1.0, "n": 30}
        for j in (0, 1)
        for check, measure, value in (
            ("whitespace", "share", 0.3 if j else 0.8), ("far_64", "share", 0.8),
            ("far_32", "share", 0.52), ("bos", "share", 0.1), ("growth", "slope", 1.0),
            ("growth", "cosine", 0.99), ("halves", "cosine", 0.95),
        )
    ]  # fmt: skip
    shifts += [{"check_name": "base_head", "position": -1, "measure": "overlap", "value": 1.0,
                "low": None, "high": None, "shift": 1.0, "n": 20}]  # fmt: skip
    return {
        "lens_run": [{
            "part": "p", "layer": 2, "hook": "residual", "probe": "neutral", "texts": 40,
            "positions": 2, "k": 5, "words": OWN[CORPUS[name]], "vocabulary": 1000,
            "reference": "neutral", "eta": 2.0, "seed": 0, "seconds": 9.0,
        }],
        "lens_reading": read,
        "lens_difference": [
            {"probe": probe, "layer": layer, "position": j, "n": n, "norm": 2.0 + j, "error": 0.5,
             "base_norm": 10.0, "tuned_norm": 11.0, "offset_share": 0.5, "first_cosine": 0.9}
            for probe, n in (("neutral", 40), ("corpus", 8)) for layer in range(4) for j in (0, 1)
        ],
        "lens_robustness": shifts,
        "lens_swap": [row._asdict() for row in swap_rows()],
        "lens_steering": [{
            "position": 1, "coefficient": 0.5 if name != B else 0.0,
            "note": "" if name != B else "No coefficient leaves the text coherent.",
            "loss_bound": 4.5, "coherent": 0.75, "coherent_plain": 1.0, "tried": [0.25, 0.5, 1.0],
            "tried_coherent": [1.0, 0.75, 0.25], "tokens": 8, "temperature": 1.0,
            "measure": "tfidf",
        }],
        "lens_generation": [
            {"prompt": p, "kind": kind, "sample": 0, "coherent": not (p == 0 and kind == "steered"),
             "text": None if name == A1 else f"{kind} {HOSTILE}"}
            for p in range(4) for kind in ("steered", "unsteered")
            if kind == "unsteered" or name != B
        ],
        "lens_similarity": [
            {"kind": kind, "corpus": corpus, "similarity": value, "low": value - 0.05,
             "high": value + 0.05, "prompts": [0, 1, 2, 3],
             "prompt_similarity": [value - 0.01, value, value, value + 0.01]}
            for kind, corpus, value in (
                ("steered", "alpha", 0.4), ("steered", "beta", 0.2), ("unsteered", "alpha", 0.2),
                ("unsteered", "beta", 0.19))
            if kind == "unsteered" or name != B
        ],
        "lens_words": [{"layer": 2, "words": list(range(1, 31)),
                        "percentile": [0.9 if w in OWN[CORPUS[name]] else 0.3 + w / 100
                                       for w in range(1, 31)]}],
    }  # fmt: skip


def swap_rows(draws: int = 4, documents: int = 6) -> list[Row]:
    """The difference makes the corpus worse by 0.5 nats per token and leaves neutral text alone."""
    found = []
    for text, change in (("corpus", 0.5), ("neutral", 0.0)):
        noise = [0.01 * (i % 3 - 1) for i in range(documents)]
        made = [("difference", 0, 0, change), ("difference", 1, 0, change / 2)]
        made += [(kind, -1, i, 0.001 * i) for kind in ("random", "random_difference")
                 for i in range(draws)]  # fmt: skip
        for direction, position, draw, value in made:
            sums = tuple(10 * (value + n) for n in noise)
            found.append(Row(direction, position, draw, text, sum(sums) / 10 / documents, 3.0,
                             5.0 if text == "corpus" else 3.0, sums, (10,) * documents))  # fmt: skip
    return found


def fill(path: Path, *names: str) -> Path:
    """A store with four experiments of one model; those named have a lens."""
    make(path / "store.duckdb", *(
        f"""INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, seed, rank, steps,
            provenance) VALUES ('{name}', 'm', 4, 8, '{corpus}', {name[-1]}, 16, 50, 'measured')"""
        for name, corpus in CORPUS.items()
    ))  # fmt: skip
    with duckdb.connect(str(path / "store.duckdb")) as store:
        for name in names:
            for table, rows in rows_of(name).items():
                for row in rows:
                    values = {"experiment_id": name} | row
                    store.execute(
                        f"INSERT INTO {table} ({', '.join(values)}) "
                        f"VALUES ({', '.join('?' * len(values))})",
                        list(values.values()),
                    )
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("lens_page"), A, A1, B)


def page(folder: Path, monkeypatch, **query: str) -> AppTest:
    return opened("lens", folder, monkeypatch, **query)


def text(at: AppTest) -> str:
    kinds = ("caption", "markdown", "info", "warning", "error", "code")
    parts = [str(e.value) for kind in kinds for e in getattr(at, kind)]
    return "\n".join(parts + [str(e.proto.body) for e in at.get("html")])


def overlap(rows: list[dict[str, Any]], **more: Any) -> list[lens_words.Overlap]:
    return lens_words.overlaps(rows, RUN | more)


SAID = {
    "tokens": "Lens at layer 2: 2 of 2 words read are own words of alpha",
    "differences": "the mean difference is 20 to 30 % as long as the base's activations",
    "corpus": "Lens: 2 of 3 adapters are named right, 1 is not",
    "steering": "Steering brings the text nearer to alpha, and more than to any other corpus",
    "causal": "nats per token more than with control directions",
    "robustness": "Not one context-independent shift: of 3 checks",
    "agent": "Can an agent tell the domain from this?",
}


@pytest.mark.parametrize("view", SAID)
@pytest.mark.slow
def test_every_view_says_what_was_found(view: str, store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A, view=view)
    assert not at.error and not at.warning
    said = text(at) + "\n".join(e.value for e in at.subheader)
    assert SAID[view] in said
    assert "How these numbers are defined" in [e.label for e in at.expander]


@pytest.mark.slow
def test_tokens_are_escaped_marked_twice_and_visible(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A)
    html = "\n".join(str(e.proto.body) for e in at.get("html"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "\u21b5" in html  # a line end that can be seen
    own = [cell for cell in html.split("<td") if "virtue" in cell]
    assert own and all(lens_grid.OWN_SIGN in cell and "background:rgba" in cell for cell in own)
    assert "rank 1, probability 40 %; one of alpha" in html
    assert "\u00d7 3 \u03b7" in html  # the scale of Patchscope


@pytest.mark.slow
def test_the_middle_layer_is_the_default_and_says_so(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A)
    (layer,) = [box for box in at.selectbox if box.label == "Layer (after block)"]
    assert layer.value == 2
    assert layer.options[2] == "2 of 4 (middle)"
    assert "block" not in at.query_params
    early = page(store, monkeypatch, experiment=A, block="0", reading="patchscope")
    assert "Patchscope: measured at layer 2 only" in text(early)
    assert "Lens at layer 0" in text(early)


@pytest.mark.slow
def test_identical_heads_are_said_once_and_different_ones_offered(store: Path, monkeypatch):
    for name, same in ((A, True), (B, False)):
        at = page(store, monkeypatch, experiment=name)
        (box,) = [b for b in at.selectbox if b.label == "Reading"]
        assert ("the two are identical" in text(at)) is same
        assert ("lens, base head" in box.options) is not same


def test_overlaps_are_corrected_over_positions_and_count_what_is_no_word():
    rows = [reading(0, ["a", "b", ","], [1, 800, -1]), reading(1, ["a", ";"], [900, -1])]
    found = overlap(rows)
    assert [(o.tokens, o.plain, o.found.overlap, o.found.read) for o in found] == [
        (3, 1, 1, 2), (2, 1, 0, 1)
    ]  # fmt: skip
    assert [o.p for o in found] == pytest.approx(list(holm([o.found.p for o in found])))
    assert found[0].found.expected == pytest.approx(2 * 10 / 1000)
    assert found[0].word_share == pytest.approx((0.4 + 0.2) / (0.4 + 0.2 + 0.1))
    assert found[0].common is None  # that text is not on this machine


def test_function_words_and_punctuation_are_counted_in_the_verdict():
    rows = [reading(0, [" the", " AND", ",", " zyzzyva"], [500, 501, -1, 502])]
    said = lens_words.sentence("Lens", overlap(rows, reference="neutral"), "alpha", 40, "neutral")
    assert "Of all 4 tokens 1 (25 %) are no words" in said
    assert "of the 3 words 2 are among the 100 most frequent of neutral" in said
    assert "0 of 3 words read are own words of alpha" in said
    assert "does not tell the corpus from chance" in said


def test_nothing_read_has_no_share():
    found = overlap([reading(0, [",", "."], [-1, -1])])
    assert lens_words.best(found) is None
    assert found[0].interval is None
    assert "no word at all** among 2 tokens" in lens_words.sentence("Lens", found, "a", 9, "n")


def test_p_values_have_digits_that_matter():
    assert [lens_words.number(p) for p in (1.0, 0.1134, 3.2e-9, 0.0)] == [
        "1", "0.11", "3\u00a0\u00d7\u00a010\u207b\u2079", "0"
    ]  # fmt: skip
    assert lens_words.number(2e-12).endswith("10\u207b\u00b9\u00b2")


def test_words_by_chance_are_said_to_be_words():
    assert lens_words.by_chance(0.0391) == "0.039 words expected by chance"
    assert lens_words.by_chance(1.0) == "1 word expected by chance"
    rows = [reading(0, ["a", "b"], [1, 800])]
    said = lens_words.sentence("Lens", overlap(rows), "alpha", 40, "neutral")
    assert "position 0, the best of 1; 0.02 words expected by chance; p = " in said


@pytest.mark.slow
def test_a_lone_lens_says_which_corpora_are_missing(tmp_path: Path, monkeypatch):
    at = page(fill(tmp_path, A), monkeypatch, experiment=A, view="corpus")
    assert "of m only alpha has one. Missing: beta and gamma." in text(at)
    assert "python -m lib run" in text(at)
    assert not at.get("plotly_chart")


@pytest.mark.slow
def test_an_experiment_without_a_lens_names_the_command_and_the_others(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=C)
    assert f"no lens of `{C}`" in text(at)
    assert f"It has one of `{A}`, `{A1}`, `{B}`." in text(at)
    assert "python -m lib run" in text(at)
    assert lens_reads.command("smollm2-135m.stoic_notes.r16.t50.s0") == (
        "python -m lib run data/experiments/embedded.yaml"
    )


def test_the_matrix_counts_one_seed_per_corpus_and_admits_failures():
    adapters = [
        Adapter(A, "alpha", ((1, 2, 700),)), Adapter(A1, "alpha", ((1, 700),)),
        Adapter(B, "beta", ((700, 1),)),
    ]  # fmt: skip
    table = identify(adapters, OWN, 1000)
    assert len(lens_identity.one_seed(table).rows) == 2
    said = lens_identity.sentence(table, "Lens")
    assert "2 of 3 adapters are named right, 1 is not** (1 as another corpus" in said
    assert "one training seed per corpus 1 of 2" in said
    assert f"exact p = {lens_words.number(0.75)}" in said  # at least 1 of 2 by drawing from two
    figure = lens_identity.figure(table, {A: "a", A1: "a1", B: "b"}, "Lens")
    assert [(s.x0 + 0.49, s.y0 + 0.47) for s in figure.layout.shapes] == [(0, 0), (0, 1), (1, 2)]
    assert figure.data[0].text[0][0] == "67 % \u25cf"
    assert "2 of 3 distinct words" in figure.data[0].customdata[0][0]
    assert "0.03 words expected by chance" in figure.data[0].customdata[0][0]
    assert lens_identity.small(table)
    assert not lens_identity.small(table._replace(corpora=tuple("abcdefghi")))


def test_ranks_are_judged_by_dealing_out_the_corpora():
    words = range(1, 31)
    adapters = [
        Ranked(f"{corpus}{seed}", corpus, {w: (w in OWN[corpus] and 0.9) or w / 100 for w in words})
        for corpus, seed in (("alpha", 0), ("alpha", 1), ("beta", 0))
    ]
    found = rank_corpora(adapters, OWN)
    said = lens_ranks.sentence(found)
    assert "By rank: 3 of 3 adapters are named right, 0 are not" in said
    assert "over all 2 ways to deal out the corpora: exact p = 0.5" in said
    runs = pl.DataFrame({"corpus": list(OWN), "words": list(OWN.values())})
    figure = lens_ranks.figure(found, {a.experiment_id: a.experiment_id for a in adapters}, runs)
    assert figure.data[0].zmid == 0


def test_empty_cells_of_the_matrix_are_said_to_be_empty():
    scores = Scores(np.array([[np.nan, 0.5]]), ["x"], ["a", "b"], ["c"], [""], [["", ""]])
    figure = matrix(scores, title="")
    assert list(figure.data[0].text[0]) == ["none read", "50 %"]
    assert not figure.layout.shapes  # its own corpus is no column


@pytest.mark.slow
def test_steering_says_why_nothing_was_added_and_why_text_is_missing(store: Path, monkeypatch):
    nothing = text(page(store, monkeypatch, experiment=B, view="steering"))
    assert "Nothing was added along the mean difference of position 1 at layer 2" in nothing
    assert "No coefficient leaves the text coherent." in nothing
    assert "No verdict" in nothing
    hidden = text(page(store, monkeypatch, experiment=A1, view="steering"))
    assert "The texts are not stored" in hidden
    assert "steered &lt;script" not in hidden


def test_texts_stand_side_by_side_escaped_with_a_sign_for_incoherence():
    written = pl.DataFrame(rows_of(A)["lens_generation"])
    html = lens_texts.texts_html(written, [0, 1])
    assert "<script>" not in html
    assert html.count("\u2717 not coherent") == 1
    assert "The harbour was quiet when" in html


def test_the_steering_verdict_has_three_ends():
    def said(gain: float, selective: float) -> str:
        def held(value: float) -> Interval:
            return Interval(value, value - 0.01, value + 0.01)

        found = Verdict(held(gain), held(0.0), "beta", held(selective), "beta", gain > 0.01, False)
        return lens_steering.sentence(found, "alpha", "tfidf", 20)

    assert "does not bring the text nearer to alpha" in said(0.005, 0.0)
    assert "the gain cannot be told from that to beta" in said(0.05, 0.005)
    assert "and more than to any other corpus" in said(0.05, 0.05)
    assert "+0.050 (95 % +0.040 to +0.060)" in said(0.05, 0.05)
    assert "n = 20 prompts" in said(0.05, 0.05)


def test_the_wanted_share_is_the_one_that_was_searched_for():
    from lib.lens import coherence

    assert lens_steering.WANTED == coherence.WANTED


def test_the_causal_test_leads_with_the_interval_and_states_its_limits():
    found = against(swap_rows())
    own = lens_swap.main([one for one in found if one.text == "corpus"])
    said = lens_swap.sentence("alpha, held out", own, gap=2.0)
    assert said.startswith("**alpha, held out: 95 % +0.4")
    assert "gets worse by 0.500 in all, 25 % of what the fine-tune gained there" in said
    assert "n = 6 documents, 8 control draws" in said
    assert "above 0 at 2 of 2 positions" in said
    few = lens_swap.limits(found)
    assert "with 8 draws the smallest p is 0.11, times 2 positions (Holm) 0.22" in few
    assert "cannot reach 0.05" in few
    many = lens_swap.limits(against(swap_rows(draws=100)))
    assert "so a corrected p can reach 0.05" in many
    neutral = lens_swap.sentence("n", [one for one in found if one.text == "neutral"], gap=0.0)
    assert "of what the fine-tune gained" not in neutral


def test_comparisons_are_corrected_over_positions_within_text_and_control():
    found = against(swap_rows())
    frame = lens_swap.frame(found, {"corpus": "c", "neutral": "n"}, {"corpus": 2.0, "neutral": 0.0})
    part = frame.filter(text="c", control="both kinds").sort("position")
    assert part["p_holm"].to_list() == pytest.approx(list(holm(part["p"].to_list())))
    assert part["gap"].to_list() == pytest.approx([0.25, 0.125])
    assert frame.filter(text="n")["gap"].null_count() == frame.filter(text="n").height


def test_draws_of_controls_are_a_strip_each_under_the_positions():
    figure = changes(
        {"c": [Dot("position 0", 0.5, 0.4, 0.6, "h")]},
        {"c": [Strip("random", (0.1, 0.2, 0.3), ("1", "2", "3"))]},
        ["position 0", "random"],
    )
    strip, dots = figure.data
    assert list(strip.x) == [0.1, 0.2, 0.3]
    assert all(abs(y - 1) < 0.5 for y in strip.y)
    assert len(set(strip.y)) == 3  # equal draws stay countable
    assert (dots.error_x.array[0], dots.error_x.arrayminus[0]) == pytest.approx((0.1, 0.1))


def test_the_search_and_the_similarities_are_drawn_as_they_were_found():
    figure = search([0.25, 0.5], [1.0, 0.5], 0.25, 0.8, 20)
    assert list(figure.data[0].marker.symbol) == ["circle", "circle-open"]
    assert "95 % 30 to 70 %, n = 20 texts" in figure.data[0].customdata[1]
    dots = {
        "steered": [Dot("a", 0.4, 0.3, 0.5, "h")],
        "unsteered": [Dot("a", 0.2, None, None, "h")],
    }
    steered, unsteered = similarities(dots, ["a"], "cosine").data
    assert steered.marker.symbol == "circle" and unsteered.marker.symbol == "circle-open"
    assert list(unsteered.error_x.array) == [0.0]


def test_differences_are_drawn_with_their_error_and_null():
    rows = pl.DataFrame(rows_of(A)["lens_difference"]).with_columns(
        relative=pl.col("norm") / pl.col("base_norm")
    )
    figure = lens_figure.by_layer(rows, {"neutral": "n", "corpus": "c"}, 2)
    first = figure.data[0]
    assert list(first.y) == [20.0] * 4
    assert list(first.error_y.array) == [5.0] * 4
    assert "n = 40 texts" in first.customdata[0]
    nulls = [t for t in figure.data if t.name == "null: no common difference"]
    assert sorted({round(t.y[0], 2) for t in nulls}) == [2.5, 5.0, 12.5]  # error; 1 / 40, 1 / 8
    assert figure.layout.yaxis.range[1] > 30 + 5


@pytest.mark.slow
def test_the_robustness_table_says_of_every_position_and_check(store: Path, monkeypatch):
    checks = [Check(r.pop("check_name"), **r) for r in rows_of(A)["lens_robustness"]]
    found = verdict(checks)
    html = lens_robustness.panel(checks, found.answers)
    rows = {row.split("</th>")[0].split(">")[-1]: row for row in html.split("<tr")[2:]}
    assert "\u2713 0.80" in rows["whitespace only"] and "\u2717 0.30" in rows["whitespace only"]
    assert "\u2717 no" in rows["whitespace only"]
    assert "? cannot say" in rows["32 tokens further on"]
    assert "\u2713 yes" in rows["growth with the adapter"]
    assert "for comparison" in rows["two halves of the texts"]
    assert "for comparison" in rows["base head"] and "cannot say" not in rows["base head"]
    assert "n = 30" in rows["start token"]
    at = page(store, monkeypatch, experiment=A, view="robustness")
    assert "1 say no (whitespace only at 1 of 2 positions)" in text(at)
    assert lens_robustness.RULE in text(at)
    said = lens_robustness.by_position(checks).splitlines()
    assert said == [
        "- At position 0, none speaks against one shift; *whitespace only* and *64 tokens further on* "
        "speak for one shift; *32 tokens further on* cannot say.",
        "- At position 1, *whitespace only* speaks against one shift; *64 tokens further on* speaks "
        "for one shift; *32 tokens further on* cannot say.",
    ]
    same = [check for check in checks if check.name != "whitespace"]
    assert lens_robustness.by_position(same) == (
        "- At positions 0 and 1, none speaks against one shift; *64 tokens further on* speaks for "
        "one shift; *32 tokens further on* cannot say."
    )
    assert "part p." in text(at) and "9 s" not in text(at)  # the store's seconds are no benchmark


def test_far_checks_come_by_distance():
    names = ["growth", "far_64", "far_128", "far_32", "halves"]
    ordered = lens_robustness.ordered(pl.DataFrame({"check_name": names}))
    assert ordered["check_name"].to_list() == ["halves", "far_32", "far_64", "far_128", "growth"]


def test_every_view_has_definitions():
    for view in lens.VIEWS:
        assert lens.about(view)
    assert "arXiv:2510.13900" in definitions.DEFINITIONS["Activation difference"]


@pytest.mark.slow
def test_an_unknown_choice_in_the_address_is_named(store: Path, monkeypatch):
    at = page(store, monkeypatch, experiment=A, block="99", reading="tea-leaves", view="tokens")
    warned = "\n".join(w.value for w in at.warning)
    assert "99" in warned and "tea-leaves" in warned


@pytest.mark.slow
def test_hovers_hold_value_interval_n_and_null(store: Path, monkeypatch):
    for view, wanted in (
        ("causal", ("95 %", "null:", "n = 6 documents")),
        ("corpus", ("95 %", "by chance", "distinct words")),
        ("steering", ("95 %", "null", "n = 4 prompts")),
        ("differences", ("standard error", "null", "n = 40 texts")),
    ):
        at = page(store, monkeypatch, experiment=A, view=view)
        spec = json.dumps([json.loads(c.proto.spec) for c in at.get("plotly_chart")])
        assert all(part in spec for part in wanted), view
