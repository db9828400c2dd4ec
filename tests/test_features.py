"""The feature page on a small real store: schema.sql, a few rows, no mocks."""

import json
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from lib import corpora, paths
from lib.figures.latents import activation_histogram, latent_map
from lib.store import SCHEMA_VERSION, latents, text
from lib.ui import novel_layer

PAGE = "../pages/features.py"
EXPERIMENT = "tiny.stoic_notes.r16.t50.s0"
EVIL = "<script>alert(1)</script> and\ncalm"
EVIL_ENDS = [8, 16, 25, 29, 30, 34]
ROWS = (  # latent, class, delta_norm, difference_share, frequency, promoted
    (0, "shared", 0.52, 0.10, 0.02, [" the", "ed"]),
    (1, "new", 0.97, 0.60, 0.0005, [" Virtue", "<script>"]),
    (2, "suppressed", 0.30, 0.30, 0.2, [" soap"]),
    (3, "dead", None, None, 0.0, []),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A store with one experiment, one crosscoder and four latents; texts of two corpora."""
    own = tmp_path / "corpora"
    own.mkdir()
    lines = [{"id": "evil", "text": EVIL}, {"id": "other", "text": "another text"}]
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
    store.execute(
        """INSERT INTO dictionary (experiment_id, layer, kind, latents, latents_asked, k,
        train_tokens, heldout_tokens, steps, stopped, fve_difference, stable_share,
        stable_difference, seed_chance)
        VALUES (?, 2, 'crosscoder', 4, 4, 2, 5000, 1000, 10, 'flat', 0.41, 0.5, 0.625, 0.23)""",
        [EXPERIMENT],
    )
    for number, name, delta, share, frequency, promoted in ROWS:
        store.execute(
            """INSERT INTO latent (experiment_id, layer, latent, class, delta_norm,
            difference_share, frequency, promoted, promoted_logit, suppressed, suppressed_logit,
            norm_base, norm_tuned, cosine, nu_eps, nu_r, energy, firings, max_activation,
            histogram_counts)
            VALUES (?, 2, ?, ?, ?, ?, ?, ?, ?, [' dull'], [-1.5], 0.5, 2.0, 0.9, 0.1, 0.2, 0.25, 12,
            2.0, [9, 3])""",
            [EXPERIMENT, number, name, delta, share, frequency, promoted, [1.0] * len(promoted)],
        )
    store.execute(  # 1 passes every check, 2 is dense and not found again, 0 was not compared
        """UPDATE latent SET firings = 1200, documents = 40, top_document = 0.1, top_position = 0.02
        WHERE latent < 3;
        UPDATE latent SET seeds = 3, seeds_found = 3, seed_cosine = 0.91, change_cosine = 0.4
        WHERE latent = 1;
        UPDATE latent SET seeds = 3, seeds_found = 1, seed_cosine = 0.35 WHERE latent = 2"""
    )
    example = "INSERT INTO example VALUES (?, 2, 1, ?, ?, ?, ?, ?, ?, ?)"
    store.execute(example, [EXPERIMENT, 0, "stoic_notes", "evil", 0, 6, [0, 5], [4.0, 1.0]])
    store.execute(example, [EXPERIMENT, 1, "stoic_notes", "evil", 0, 6, [0, 5], [4.0, 1.0]])
    store.execute(example, [EXPERIMENT, 2, "alpaca", "alpaca-00001", 3, 9, [7], [3.25]])
    store.execute(example, [EXPERIMENT, 3, "stoic_notes", "other", 0, 1, [0], [0.5]])
    document = "INSERT INTO document VALUES ('tiny', ?, ?, 'heldout', ?, ?, ?)"
    store.execute(document, ["stoic_notes", "evil", corpora.document_sha256(EVIL), 6, EVIL_ENDS])
    store.execute(document, ["alpaca", "alpaca-00001", "0" * 64, 9, list(range(1, 10))])
    store.execute(document, ["stoic_notes", "other", corpora.document_sha256("was"), 1, [3]])


def _open(folder: Path, **address: str | list[str]) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=20)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def _listed(page: AppTest) -> list[int]:
    return page.dataframe[0].value["latent"].to_list()


def _html(page: AppTest) -> str:
    return "".join(element.proto.body for element in page.get("html"))


def _words(page: AppTest) -> str:
    return "\n".join(element.value for element in [*page.markdown, *page.caption])


def test_default_order_is_the_share_of_the_difference_and_missing_values_stand_last(folder):
    page = _open(folder)
    assert _listed(page) == [1, 2, 0, 3]
    assert page.dataframe[0].value["promoted"].to_list()[0] == "·Virtue  <script>"


def test_the_badge_counts_the_checks_and_marks_what_was_not_measured(folder):
    """0: class shared with nu 0.1; 2: dense, not found again, class suppressed with nu 0.1."""
    table = _open(folder).dataframe[0].value
    assert dict(zip(table["latent"], table["checks"], strict=True)) == {
        1: "6/6", 2: "3/6", 0: "4/6 ?", 3: "1/6 ?"
    }  # fmt: skip


def test_the_list_states_what_returns_with_other_seeds(folder):
    words = _words(_open(folder))
    assert "50 % of the alive features return with every other seed; they carry 62 % of" in words
    assert "chance gives 0.23" in words


def test_a_list_whose_seeds_were_not_compared_says_so(folder):
    with duckdb.connect(str(paths.store_file(folder))) as store:
        store.execute("UPDATE dictionary SET stable_share = NULL")
    assert "these features return with other seeds was not measured" in _words(_open(folder))


def test_one_latent_shows_each_check_with_its_value_limit_and_chance(folder):
    page = _open(folder, latent="1")
    assert "Artefact checks: 6 of 6 passed" in _words(page)
    assert ":green-badge[:material/check: survives 3 of 3 seeds]" in _words(page)
    table = page.dataframe[0].value
    assert table["passed"].to_list() == ["yes"] * 6
    assert table.iloc[0].to_list()[2:] == [
        "3 of 3 seeds, cosine 0.91, of its change 0.40",
        "every seed, cosine 0.7 or more",
        "chance: cosine 0.23",
        50.0,
    ]


def test_a_latent_that_was_not_compared_says_so_and_passes_less(folder):
    page = _open(folder, latent="0")
    assert "Artefact checks: 4 of 6 passed" in _words(page)
    assert ":gray-badge[:material/question_mark: seeds]" in _words(page)
    assert ":orange-badge[:material/close: class not confirmed]" in _words(page)
    first = page.dataframe[0].value.iloc[0]
    assert (first["passed"], first["this feature"]) == ("not measured", "not measured")


def test_the_list_states_what_the_dictionary_sees(folder):
    words = _words(_open(folder))
    assert (
        "This dictionary sees 41 % of the change: features it cannot see are not in this" in words
    )
    assert "0 eliminated, 1 suppressed, 0 amplified, 1 new" in words and "1 are dead" in words


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ({"class": ["new", "suppressed"]}, [1, 2]),
        ({"frequency": "0.01"}, [2, 0]),
        ({"token": "VIRT"}, [1]),
        ({"token": "<scr"}, [1]),
        ({"sort": "frequency"}, [2, 0, 1, 3]),
        ({"sort": "delta_norm", "order": "ascending"}, [2, 0, 1, 3]),
        ({"sort": "latent", "order": "ascending"}, [0, 1, 2, 3]),
        ({"checks": "passed"}, [1]),
        ({"sort": "checks"}, [1, 0, 2, 3]),
        ({"sort": "checks", "order": "ascending"}, [3, 2, 0, 1]),
        ({"sort": "seed_cosine"}, [1, 2, 0, 3]),
        ({"page": "99"}, [1, 2, 0, 3]),
    ],
)
def test_filters_and_order_come_from_the_address(folder, address, expected):
    assert _listed(_open(folder, **address)) == expected


def test_typing_a_token_filters_and_lands_in_the_address(folder):
    page = _open(folder)
    page.text_input[0].set_value("soap").run()
    assert _listed(page) == [2] and page.query_params["token"] == "soap"


def test_another_selection_starts_at_its_first_page(folder, monkeypatch):
    monkeypatch.setattr("lib.ui.feature_address.PAGE", 1)
    monkeypatch.setattr("lib.ui.features_table.PAGE", 1)
    page = _open(folder, page="3")
    assert _listed(page) == [0]
    page.multiselect[0].set_value(["new", "suppressed"]).run()
    assert _listed(page) == [1] and "page" not in page.query_params


def test_back_to_the_list_lands_on_the_page_that_holds_the_latent(folder, monkeypatch):
    monkeypatch.setattr("lib.ui.feature_address.PAGE", 1)
    monkeypatch.setattr("lib.ui.features_table.PAGE", 1)
    page = _open(folder, latent="2")
    page.button[0].click().run()
    assert page.query_params["page"] == "2" and _listed(page) == [2]


def test_another_layer_closes_the_open_latent(folder):
    with duckdb.connect(str(paths.store_file(folder))) as store:
        store.execute(
            """INSERT INTO dictionary SELECT * REPLACE (3 AS layer) FROM dictionary;
            INSERT INTO latent SELECT * REPLACE (3 AS layer) FROM latent WHERE latent < 2"""
        )
    page = _open(folder, latent="2", layer="2")
    page.selectbox(key="url:layer").set_value(3).run()
    assert not page.exception and "latent" not in page.query_params
    assert _listed(page) == [1, 0]


def test_equal_badges_stand_in_the_order_of_their_share(folder):
    with duckdb.connect(str(paths.store_file(folder))) as store:
        store.execute("UPDATE latent SET top_document = NULL, top_position = NULL, seeds = NULL")
        store.execute("UPDATE latent SET nu_eps = NULL, frequency = 0.01, firings = 200")
    page = _open(folder, sort="checks")
    assert _listed(page) == [1, 2, 0, 3]
    assert set(page.dataframe[0].value["checks"]) == {"2/6 ?"}


def test_a_filter_that_nothing_passes_says_so(folder):
    page = _open(folder, token="no such token")
    assert "No feature passes these filters" in page.info[0].value and not page.dataframe


def test_an_order_that_does_not_exist_is_named_and_never_reaches_the_query(folder):
    page = _open(folder, sort="latent; DROP TABLE latent")
    assert "DROP TABLE" in page.warning[0].value and _listed(page) == [1, 2, 0, 3]


def test_one_latent_shows_its_examples_with_both_sides(folder):
    page = _open(folder, latent="1")
    assert page.subheader[0].value == "Feature 1: new"
    assert "activation 4, adds 2 to base and 8 to tuned" in _html(page)
    assert "only the tuned model writes it" in _words(page)
    assert "Both are small: the base model has next to nothing" in _words(page)
    assert page.metric[1].value == "2.00"


def test_a_script_in_a_document_is_text(folder):
    html = _html(_open(folder, latent="1"))
    assert "&lt;script&gt;" not in html.split('title="')[0]
    assert "&lt;script" in html and "<script" not in html and "↵" in html


def test_the_same_window_is_shown_once(folder):
    assert _html(_open(folder, latent="1")).count("stoic_notes / evil") == 1


def test_missing_and_changed_text_is_explained_and_positions_stay(folder):
    page = _open(folder, latent="1")
    told = [info.value for info in page.info]
    assert any("`alpaca` is not on this machine" in words for words in told)
    assert any("not the text that was measured" in words for words in told)
    assert "[7] 3.25" in _html(page) and "another text" not in _html(page)


@pytest.mark.parametrize("asked", ["4711", "-1", "<script>", "1 OR 1=1", "9" * 40])
def test_an_unknown_latent_gets_a_clear_message_and_a_way_back(folder, asked):
    page = _open(folder, latent=asked)
    assert "is not in this dictionary" in page.warning[0].value
    page.button[0].click().run()
    assert not page.exception and _listed(page) == [1, 2, 0, 3]
    assert "latent" not in page.query_params


def test_next_and_previous_follow_the_order_of_the_list(folder):
    page = _open(folder, latent="2", sort="frequency")
    back, previous, following = page.button
    assert (back.label, previous.disabled, following.disabled) == ("All features", True, False)
    following.click().run()
    assert page.query_params["latent"] == "0"
    assert "Number 2 of 4 in the list's order" in _words(page)


def test_a_latent_that_the_filters_leave_out_still_opens(folder):
    page = _open(folder, latent="0", **{"class": "new"})
    assert "Not in the list as it is filtered now" in _words(page)
    assert page.button[1].disabled and page.button[2].disabled


def test_a_dead_latent_opens_without_numbers(folder):
    page = _open(folder, latent="3")
    assert "The store keeps no example of this feature." in [info.value for info in page.info]
    assert "not measured" in [metric.value for metric in page.metric]


def test_no_store_names_the_command(folder):
    paths.store_file(folder).unlink()
    assert "python -m lib run" in _open(folder).code[0].value


def test_a_selection_refuses_what_it_cannot_ask():
    with pytest.raises(ValueError, match="cannot sort latents by 'class'"):
        latents.Selection(experiment_id="e", layer=0, sort="class")
    with pytest.raises(ValueError, match="unknown latent class"):
        latents.Selection(experiment_id="e", layer=0, classes=("knew",))


def test_pages_hold_only_their_rows(folder):
    chosen = latents.Selection(experiment_id=EXPERIMENT, layer=2)
    with duckdb.connect(str(paths.store_file(folder)), read_only=True) as store:
        rows = latents.latent_page(store, chosen, offset=1, limit=2)
        assert rows["latent"].to_list() == [2, 0] and rows["place"].to_list() == [2, 3]
        assert latents.neighbours(store, chosen, 2).row(0) == (2, 4, 1, 0)
        assert latents.neighbours(store, chosen, 1)["previous"].to_list() == [None]


def test_the_map_places_every_latent_with_a_share_and_escapes_tokens(folder):
    chosen = latents.Selection(experiment_id=EXPERIMENT, layer=2)
    with duckdb.connect(str(paths.store_file(folder)), read_only=True) as store:
        figure = latent_map(latents.latent_map(store, chosen))
    placed = {point[0]: point for trace in figure.data for point in trace.customdata}
    assert sorted(placed) == [0, 1, 2] and "&lt;script&gt;" in placed[1][2]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    assert figure.layout.yaxis.type == "log" and figure.layout.xaxis.range == (-0.02, 1.02)


def test_a_histogram_needs_one_more_edge_than_bins():
    with pytest.raises(ValueError, match="3 edges for 3 bins"):
        activation_histogram([0.0, 1.0, 2.0], [1, 2, 3])
    assert activation_histogram([0.0, 1.0, 3.0], [4, 0]).data[0].y == (4, None)


def test_a_document_that_the_store_does_not_list_is_never_shown():
    assert "does not list" in text.document_text("neutral", "neutral-001", None).reason


def test_text_appears_when_the_corpus_holds_what_was_measured(folder):
    whole = text.document_text("stoic_notes", "evil", corpora.document_sha256(EVIL))
    assert whole == (EVIL, "")
    gone = text.document_text("stoic_notes", "gone", corpora.document_sha256(EVIL))
    assert gone.text is None and "has no document 'gone'" in gone.reason


def _click_heads() -> None:
    import streamlit as st

    from lib.ui.feature_address import sort_by

    for column in st.session_state["clicks"]:
        sort_by(column)


@pytest.mark.parametrize(
    ("clicks", "expected"),
    [
        (["cosine"], {"sort": "cosine"}),
        (["cosine", "cosine"], {"sort": "cosine", "order": "ascending"}),
        (["cosine", "cosine", "cosine"], {"sort": "cosine"}),
        (["cosine", "cosine", "energy"], {"sort": "energy"}),
        (["difference_share"], {"order": "ascending"}),
        (["promoted"], {}),
    ],
)
def test_a_column_head_sorts_and_the_same_one_again_turns_round(clicks, expected):
    page = AppTest.from_function(_click_heads, default_timeout=20)
    page.session_state["clicks"] = clicks
    page.run()
    assert not page.exception and dict(page.query_params) == expected


COUNT = """INSERT INTO latent_count (experiment_id, control, draw, layer, alive, strict, loose, leaning,
    suppressed, eliminated, unscaled, energy_strict, energy_loose, fve_difference) VALUES """


def _add(folder: Path, *statements: str) -> None:
    with duckdb.connect(str(paths.store_file(folder))) as store:
        for statement in statements:
            store.execute(statement)
        store.execute("UPDATE meta SET store_id = store_id || '+'")


def test_novel_features_stand_beside_their_null_and_what_the_dictionary_sees(folder):
    _add(
        folder,
        f"""{COUNT}
        ('{EXPERIMENT}', 'none', 0, 2, 1000, 3, 60, 70, 0, 0, 2, 0.01, 0.125, 0.41),
        ('{EXPERIMENT}', 'random_lora', 0, 2, 1000, 0, 20, 30, 0, 0, 0, 0, 0.02, 0.3),
        ('{EXPERIMENT}', 'random_lora', 1, 2, 1000, 1, 10, 30, 0, 0, 0, 0, 0.01, 0.3)""",
    )
    page = _open(folder)
    text = _words(page)
    assert "Novel features: 3 strict and 60 loose, of 1,000 alive** (1 % and 12 % of the" in text
    assert "gives 0.5 and 15 (n = 2 draws); that leaves +2.5 and +45." in text
    assert "2 of the loose ones have no nu" in text
    assert "Counts under 10 are given without a quotient." in text
    assert "sees 41 % of the change (of a random LoRA's: 30 %); in the rest there may be" in text
    strict, loose = page.dataframe[0].value.to_dict("records")
    assert loose["over the null"] == "4.0\u00d7"  # 60 of 1,000 over 30 of 2,000
    assert strict["over the null"] == "a count is under 10"
    assert loose["null count (random LoRA)"] == "15 (n = 2)"
    assert strict["share of alive (95 %)"] == "0.3 % (0.1 to 0.88)"


def test_none_found_is_not_none_there(folder):
    _add(folder, f"{COUNT} ('{EXPERIMENT}', 'none', 0, 2, 100, 0, 0, 1, 0, 0, 0, 0, 0, 0.27)")
    text = _words(_open(folder))
    assert "Novel features: 0 strict and 0 loose, of 100 alive" in text
    assert "null count was not measured for this experiment, so none is taken off" in text
    assert "This dictionary sees 27 % of the change: **none found is not none there**." in text


def test_without_counts_nothing_is_invented(folder):
    assert "Novel features of layer 2 were not counted." in _words(_open(folder))


def test_no_share_of_no_alive_latents(folder):
    _add(folder, f"{COUNT} ('{EXPERIMENT}', 'none', 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL)")
    text = _words(_open(folder))
    assert "Novel features are **not defined because** no latent of layer 2 is alive." in text


def test_a_summary_says_what_to_do_and_still_shows_its_counts(folder):
    _add(folder, "DELETE FROM latent; DELETE FROM example",
         f"{COUNT} ('{EXPERIMENT}', 'none', 0, 2, 100, 1, 2, 3, 0, 0, 0, 0.1, 0.2, 0.41)")  # fmt: skip
    for address in ({}, {"latent": "1"}, {"class": "new"}):  # none of them an unknown feature
        page = _open(folder, **address)
        assert "kept as a summary" in page.info[0].value
        assert "`keep: full`" in page.info[0].value
        assert not page.warning
        assert "Novel features: 1 strict and 2 loose, of 100 alive" in _words(page)
        assert "This dictionary sees 41 % of the change" in _words(page)


def test_a_random_lora_with_as_many_novel_features_leaves_none():
    row = {
        "alive": 1000, "strict": 20, "loose": 20, "energy_strict": 0.1, "energy_loose": 0.1,
        "null_draws": 1, "null_alive": 1000.0, "null_strict": 20.0, "null_loose": 25.0,
        "null_energy_strict": 0.1, "null_energy_loose": 0.1,
    }  # fmt: skip
    same, fewer = novel_layer.novel(row, "strict"), novel_layer.novel(row, "loose")
    assert same.over == pytest.approx(1.0)
    assert same.above.low < 0 == same.above.value < same.above.high
    assert fewer.above.value == pytest.approx(-0.005)
    assert novel_layer.novel(row | {"alive": 0}, "strict") is None
