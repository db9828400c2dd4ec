"""The token page on a small real store, and the token strip on hostile text."""

import json
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from lib import corpora, paths
from lib.figures.tokens import kl_distribution
from lib.store import SCHEMA_VERSION, text, tokens
from lib.ui.tokens import Mark, plain, strip, visible

PAGE = "../pages/tokens.py"
EXPERIMENT = "tiny.stoic_notes.r16.t50.s0"
EVIL = "<script>alert(1)</script>\ncalm"
ENDS = [8, 16, 25, 26, 30]
COLOURS = ("#0072B2", "#D55E00")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Scores of three documents: one with text, one whose text changed, one of another corpus."""
    own = tmp_path / "corpora"
    own.mkdir()
    lines = [{"id": "evil", "text": EVIL}, {"id": "calm", "text": "changed since"}]
    (own / "stoic_notes.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    monkeypatch.setattr(paths, "CORPORA", own)
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(tmp_path))
    text._documents.cache_clear()
    with duckdb.connect(str(paths.store_file(tmp_path))) as store:
        store.execute((paths.ROOT / "lib" / "store" / "schema.sql").read_text())
        _fill(store, store_id=str(tmp_path))  # reads are cached by this id, tests share the cache
    yield tmp_path
    text._documents.cache_clear()


def _fill(store: duckdb.DuckDBPyConnection, store_id: str) -> None:
    store.execute(
        "INSERT INTO meta VALUES (?, ?, TIMESTAMP '2026-01-01')", [SCHEMA_VERSION, store_id]
    )
    store.execute(
        """INSERT INTO experiment (experiment_id, base_model, n_layers, d, corpus, hook, rank,
        steps, seed, provenance)
        VALUES (?, 'tiny', 4, 8, 'stoic_notes', 'mlp', 16, 50, 0, 'measured')""",
        [EXPERIMENT],
    )
    scored = "INSERT INTO token_kl VALUES (?, ?, ?, ?, ?, ?)"
    store.execute(
        scored,
        [EXPERIMENT, "stoic_notes", "calm", [None, 0.01, 0.03], [None, 2.0, 2], [None, 2.0, 2]],
    )
    store.execute(
        scored,
        [EXPERIMENT, "stoic_notes", "evil", [None, 0.1, 0.2, 0.0, 9.66], [None, 1, 2, 3, 4.25],
         [None, 1, 2, 3, 0.5]],
    )  # fmt: skip
    store.execute(scored, [EXPERIMENT, "alpaca", "alpaca-1", [None, 0.0], [None, 1], [None, 1]])
    document = "INSERT INTO document VALUES ('tiny', ?, ?, 'heldout', ?, ?, ?)"
    store.execute(document, ["stoic_notes", "evil", corpora.document_sha256(EVIL), 5, ENDS])
    store.execute(document, ["stoic_notes", "calm", corpora.document_sha256("was"), 3, [1, 2, 3]])
    store.execute(document, ["alpaca", "alpaca-1", "0" * 64, 2, [1, 2]])


def _open(**address: str) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=20)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def _html(page: AppTest) -> str:
    return "".join(element.proto.body for element in page.get("html"))


def test_the_most_divergent_document_of_the_own_text_comes_first(folder):
    page = _open()
    assert page.selectbox(key="url:text").value == "stoic_notes"
    assert page.selectbox(key="url:document").options == [
        "evil: mean KL 2.49",
        "calm: mean KL 0.02",
    ]


def test_the_strip_marks_the_predicted_token_and_shows_a_script_as_text(folder):
    html = _html(_open())
    assert 'title="token 4: KL 9.66 nats, NLL base 4.25, tuned 0.50">calm</span>' in html
    assert html.count("title=") == 4  # the first token is not scored
    assert "&lt;script&gt;" in html and "<script" not in html and "↵" in html


def test_the_page_says_which_token_the_colour_belongs_to_and_how_heavy_the_tail_is(folder):
    page = _open()
    assert "The colour belongs to the **predicted** token" in page.caption[1].value
    # 0, 0.01, 0.03, 0.1, 0.2, 9.66: sum 10, median 0.065, mean 1.667
    assert "carries 97 % of all divergence" in page.markdown[0].value
    assert "KL 0.065 nats (median), the mean is 1.67: n = 6 tokens of 2" in page.markdown[0].value


def test_the_top_table_has_the_token_with_its_context(folder):
    table = _open().dataframe[0].value
    first = table.iloc[0]
    assert (first["token"], first["document_id"], first["position"]) == ("calm", "evil", 4)
    assert first["context"] == "<script>alert(1)</script>↵" and first["kl"] == pytest.approx(9.66)
    assert len(table) == 6


def test_text_that_changed_is_not_shown(folder):
    page = _open(document="calm")
    assert "not the text that was measured" in page.info[0].value
    assert "[0] not scored" in _html(page) and "changed since" not in _html(page)


def test_text_of_a_corpus_that_is_not_here_says_how_to_get_it(folder):
    page = _open(text="alpaca")
    assert "`alpaca` is not on this machine" in page.info[0].value
    assert "Base and tuned agree exactly on all 1 tokens" in page.markdown[0].value


def test_an_unknown_document_in_the_address_is_named(folder):
    page = _open(document="no-such")
    assert "no-such" in page.warning[0].value and page.selectbox(key="url:document").value == "evil"


def test_an_experiment_without_scores_names_the_stage(folder):
    with duckdb.connect(str(paths.store_file(folder))) as store:
        store.execute("DELETE FROM token_kl")
    assert "no per-token scores" in _open().info[0].value


def test_the_histogram_counts_every_scored_token_once(folder):
    with duckdb.connect(str(paths.store_file(folder)), read_only=True) as store:
        bins = tokens.kl_histogram(store, EXPERIMENT, "stoic_notes")
    assert bins["n"].sum() == 6 and bins["kl_share"].sum() == pytest.approx(1)
    assert bins["low"][0] == pytest.approx(tokens.FLOOR)  # the exact zero
    assert bins["n"].to_list() == [1] * 6
    assert all(low < high for low, high in zip(bins["low"], bins["high"], strict=True))
    figure = kl_distribution(bins, mean=10 / 6, median=0.065)
    assert [note.text for note in figure.layout.annotations] == ["median 0.065", "mean 1.67"]
    assert figure.layout.annotations[0].x == pytest.approx(-1.187, abs=1e-3)
    left = figure.data[0].x[-1] - figure.data[0].width[-1] / 2
    assert left == pytest.approx(bins["low"][-1])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>x</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='x",
        "&lt;b&gt;",
        "</span>",
    ],
)
def test_whatever_a_token_holds_is_shown_as_it_is(hostile):
    parsed = _Tags()
    parsed.feed(strip([hostile, "b"], [Mark(1.0, 0.5, hostile), None], COLOURS))
    assert parsed.text == hostile + "b"
    assert set(parsed.tags) == {"div", "span"} and parsed.names == {"class", "style", "title"}


def test_one_span_per_marked_token_and_none_for_the_others():
    html = strip(["a", "b", "c"], [None, Mark(0.2, None, "two"), None], COLOURS)
    assert html.count("<span") == 1 and ">a<span" in html and "</span>c<" in html


def test_the_halves_carry_the_two_sides_and_a_cue_besides_colour():
    strong = strip(["a"], [Mark(0.25, 1.0, "t")], COLOURS)
    assert "linear-gradient(rgba(0,114,178,0.15) 50%,rgba(213,94,0,0.62) 50%)" in strong.replace(
        "0.16", "0.15"
    )
    assert "font-weight:700" in strong and "2px solid" in strong
    weak = strip(["a"], [Mark(0.2, 0.1, "t")], COLOURS)
    assert "font-weight" not in weak and "1px dotted" in weak
    faint = strip(["a"], [Mark(0.01, None, "t")], COLOURS)
    assert "border-bottom" not in faint


def test_values_past_the_ends_of_the_scale_are_drawn_at_the_ends():
    assert strip(["a"], [Mark(7.0, None, "")], COLOURS) == strip(
        ["a"], [Mark(1.0, None, "")], COLOURS
    )


def test_white_space_and_hidden_characters_can_be_seen():
    parsed = _Tags()
    parsed.feed(visible("a\n\tb") + visible("  ") + visible("x\u202ey") + visible(""))
    assert parsed.text == "a↵⇥b" + "··" + "x[U+202E]y" + "\u2039\u203a"
    assert "\n" in visible("a\nb", breaks=True)
    assert visible("a b") == "a b" and visible("👩\u200d🔬") == "👩\u200d🔬"
    assert plain(" the\n") == "·the↵" and plain("  ") == "··" and plain("<b>") == "<b>"


def test_tokens_without_a_mark_each_are_refused():
    with pytest.raises(ValueError, match="2 tokens with 1 marks"):
        strip(["a", "b"], [None], COLOURS)


def test_a_token_is_the_text_between_two_ends():
    assert text.token_texts("ab cd", [2, 2, 5], 0, 3) == ["ab", "", " cd"]
    assert text.token_texts("ab cd", [2, 5], 1, 2) == [" cd"]
    with pytest.raises(ValueError, match=r"tokens 1\.\.3 of a document of 2 tokens"):
        text.token_texts("ab cd", [2, 5], 1, 3)
