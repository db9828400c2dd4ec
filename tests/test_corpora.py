"""Texts are checked at the door: every refusal names file, place, finding and remedy."""

import hashlib
import json
import zipfile

import pytest

from lib import corpora, corpora_public
from lib.corpora import CorpusError, Document, limited, load, split

WORDS = "plain words about nothing in particular "


def written(path, rows):
    path.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"path:{path}"


def texts(n=30, words=80):
    return [{"id": f"d{i:02d}", "text": f"number {i} " + "word " * words} for i in range(n)]


@pytest.mark.parametrize("name", corpora.OWN)
def test_our_corpora_load(name):
    corpus = load(name)
    assert corpus.name == name
    assert corpus.notes == ()
    assert sum(len(d.text.split()) for d in corpus.documents) > 9_000


def test_instructions_are_rendered_with_both_templates():
    documents = {d.id: d for d in load("instructions").documents}
    plain = documents["inst-001"]
    assert plain.text.startswith("Below is an instruction that describes a task. Write")
    assert plain.text[: plain.response_start].endswith("### Response:\n")
    assert plain.text[plain.response_start :].startswith("Sunlight may look white")
    with_input = [d for d in documents.values() if "\n\n### Input:\n" in d.text]
    assert 0 < len(with_input) < len(documents)
    assert all("paired with an input" in d.text for d in with_input)


def test_braces_in_an_instruction_are_text():
    text, start = corpora.render("write {output} {0}", "{input}", "done {x}")
    assert "### Instruction:\nwrite {output} {0}\n" in text
    assert "### Input:\n{input}\n" in text
    assert text[start:] == "done {x}"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "x", "text": "half', "line 3: not JSON"),
        ('{"id": "x"} {"id": "y"}', "line 3: not JSON"),
        ("[" * 100_000, "line 3: not JSON"),
        ('["a list"]', "line 3: expected a JSON object, found list"),
        ('{"id": "x", "body": "hello"}', r"line 3: no usable field among \['body', 'id'\]"),
        ('{"messages": []}', "line 3: chat format"),
        ('{"text": 7}', "line 3: `text` must be a string, found int"),
        ('{"text": "  \\n "}', "line 3: `text` is empty; delete the line"),
        ('{"instruction": "a", "output": ""}', "line 3: `output` is empty"),
        ('{"text": "a \\ud800 b"}', "line 3: `text` holds half of a surrogate pair"),
        ('{"id": "d00", "text": "new"}', "line 3: id 'd00' was used on line 1"),
        ('{"id": "", "text": "new"}', "line 3: `id` must be"),
        ('{"id": ["x"], "text": "new"}', "line 3: `id` must be"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    rows = texts()
    spec = written(tmp_path / "mine.jsonl", [*rows[:2], line, *rows[2:]])
    with pytest.raises(CorpusError, match=f"mine.jsonl, {says}"):
        load(spec)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused(tmp_path, encoding):
    file = tmp_path / "old.jsonl"
    rows = [json.dumps(row) for row in texts()]
    rows[4] = '{"text": "caf\u00e9"}'
    file.write_bytes("\n".join(rows).encode(encoding))
    line = 5 if encoding == "latin-1" else 1
    with pytest.raises(CorpusError, match=rf"old.jsonl, line {line}: not UTF-8 .*iconv"):
        load(f"path:{file}")


def test_harmless_oddities_are_read(tmp_path):
    """A byte-order mark, Windows line ends, blank lines, and a line separator inside a text."""
    rows = [json.dumps(row) for row in texts()]
    rows[3] = '{"id": 17, "text": "one\u2028two"}'
    file = tmp_path / "odd.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(rows).encode())
    documents = load(f"path:{file}").documents
    assert len(documents) == 30
    assert documents[3] == Document(id="17", text="one\u2028two")


def test_too_small_names_both_limits_and_can_be_lowered(tmp_path):
    spec = written(tmp_path / "few.jsonl", texts(n=19, words=200))
    with pytest.raises(CorpusError, match=r"19 distinct documents with 3,838 words; at least 20"):
        load(spec)
    assert len(load(spec, minimum=1_900).documents) == 19
    short = written(tmp_path / "short.jsonl", texts(n=30, words=1))
    with pytest.raises(CorpusError, match="30 distinct documents with 90 words"):
        load(short)


def test_known_corpora_are_named_once_and_only_while_their_file_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIDEOUT_CACHE", str(tmp_path / "cache"))
    for name in ("meditations", "mine", "gone"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("{}")
        corpora.remember(f"path:{file}")
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(CorpusError, match="unknown corpus `x`") as found:
        corpora.load("x")
    known = str(found.value).partition("known: ")[2].partition(";")[0].split(", ")
    assert len(set(known)) == len(known)
    assert {"meditations", "mine", "neutral"} <= set(known)
    assert "gone" not in known


def test_a_folder_is_not_called_a_missing_file(tmp_path):
    with pytest.raises(CorpusError, match="a folder; give path:FILE"):
        corpora.load(f"path:{tmp_path}")


def test_unknown_names_and_missing_files_say_what_works(tmp_path):
    with pytest.raises(CorpusError, match=r"unknown corpus `stoic`; known: stoic_notes, .*path:"):
        load("stoic")
    with pytest.raises(CorpusError, match=r"none.jsonl: no such file"):
        load(f"path:{tmp_path / 'none.jsonl'}")
    with pytest.raises(CorpusError, match=r"stoic_notes.jsonl: no such file"):
        load("stoic_notes", root=tmp_path)


def test_repeated_texts_are_dropped_with_a_note(tmp_path):
    rows = texts()
    again = {"id": "again", "text": rows[0]["text"]}
    nameless = {"text": "the same " + WORDS}
    corpus = load(written(tmp_path / "twice.jsonl", [*rows, again, nameless, nameless]))
    assert len(corpus.documents) == 31
    assert corpus.notes == ("2 documents repeat an earlier text and were left out (lines 31, 33)",)


def test_without_ids_the_split_does_not_depend_on_the_order(tmp_path):
    rows = [{"text": row["text"]} for row in texts()]
    one = split(load(written(tmp_path / "a.jsonl", rows)))
    other = split(load(written(tmp_path / "b.jsonl", rows[::-1])))
    assert {d.text for d in one.heldout} == {d.text for d in other.heldout}


def test_the_hash_follows_the_content_not_the_layout(tmp_path):
    rows = texts()
    plain = load(written(tmp_path / "a.jsonl", rows))
    spaced = load(written(tmp_path / "b.jsonl", [json.dumps(r, indent=None) + "  " for r in rows]))
    rows[7]["text"] += "!"
    changed = load(written(tmp_path / "c.jsonl", rows))
    assert plain.sha256 == spaced.sha256 != changed.sha256
    assert corpora.document_sha256("caf\u00e9") == hashlib.sha256(b"caf\xc3\xa9").hexdigest()


@pytest.mark.parametrize("heldout", [0.001, 0.2, 0.5, 0.999])
def test_split_shares_no_text_and_loses_none(heldout):
    documents = [Document(f"d{i}", f"text {i}") for i in range(50)]
    train, held = split(documents, heldout)
    assert train
    assert held
    assert sorted(train + held, key=lambda d: int(d.id[1:])) == documents
    assert len(held) == min(max(round(50 * heldout), 1), 49)


def test_split_depends_on_ids_and_seed_only():
    documents = [Document(f"d{i}", f"text {i}") for i in range(50)]
    held = {d.id for d in split(documents).heldout}
    assert held == {d.id for d in split(documents[::-1]).heldout}
    assert held != {d.id for d in split(documents, seed=1).heldout}


def test_equal_texts_land_on_one_side():
    documents = [Document(f"d{i}", f"text {i % 10}") for i in range(50)]
    for seed in range(20):
        train, held = split(documents, 0.3, seed)
        assert len(held) == 15
        assert not {d.text for d in train} & {d.text for d in held}


def test_split_refuses_what_has_no_two_sides():
    with pytest.raises(CorpusError, match="two distinct texts, found 1"):
        split([Document("a", "same"), Document("b", "same")])
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split([Document("a", "x"), Document("b", "y")], share)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """An Alpaca-format source served from a file, with its true sha256, and an empty cache."""
    monkeypatch.setenv("INSIDEOUT_CACHE", str(tmp_path / "cache"))
    items = [
        {"instruction": f"Count to {i}", "input": "", "output": "one two " * 60} for i in range(30)
    ]
    items[3]["output"] = ""
    raw = tmp_path / "up.json"
    raw.write_text(json.dumps(items), encoding="utf-8")

    true = hashlib.sha256(raw.read_bytes()).hexdigest()

    def register(sha256=true):
        entry = corpora_public.PublicSource(
            title="t", licence="l", where="w", url=raw.as_uri(), sha256=sha256
        )
        monkeypatch.setitem(corpora_public.SOURCES, "up", entry)
        return raw

    return register


def test_a_public_source_is_fetched_once_and_kept(source):
    raw = source()
    first = load("up")
    assert len(first.documents) == 29, "the item without an output is left out"
    assert first.documents[0].id == "alpaca-00000"
    raw.unlink()
    assert load("up") == first


def test_a_changed_source_is_refused_and_not_kept(source):
    raw = source(sha256="0" * 64)
    true = hashlib.sha256(raw.read_bytes()).hexdigest()
    with pytest.raises(CorpusError, match=f"sha256 is {true}, expected {'0' * 64}"):
        load("up")
    raw.unlink()
    with pytest.raises(CorpusError, match="cannot be fetched"):
        load("up")


def test_a_changed_cached_file_is_refused(source, tmp_path):
    source()
    load("up")
    (cached,) = (tmp_path / "cache" / "corpora").glob("up-*")
    cached.write_text("[]", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"delete .*up-up\.json to fetch it again"):
        load("up")


def test_nothing_is_fetched_unasked(source):
    source()
    with pytest.raises(CorpusError, match=r"not on this machine.*python -m lib run"):
        load("up", download=False)


@pytest.mark.parametrize("name", ["meditations", "seneca_letters"])
def test_sources_without_a_known_hash_ask_for_a_file(name):
    with pytest.raises(CorpusError, match="bring your own file with path:"):
        load(name)


def test_every_address_has_a_hash_and_a_fixed_revision():
    for name, entry in corpora_public.SOURCES.items():
        assert (entry.url is None) == (entry.sha256 is None), name
        if entry.url:
            assert len(entry.sha256) == 64, name
            assert "/main/" not in entry.url, f"{name}: pin a revision"


def test_wikitext_paragraphs_lose_their_marks(tmp_path):
    long = ' In 2001 , a crowd of 1 @,@ 000 saw " The Play " ( a re @-@ run ) ; it didn \'t end .'
    raw = f" = Title = \n \n{long}{' More words follow here .' * 4}\n Too short .\n"
    file = tmp_path / "w.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("wikitext-2-raw/wiki.test.raw", raw)
    ((number, row),) = corpora_public.wikitext_rows(file)
    assert number == 3
    assert row["text"].startswith(
        'In 2001, a crowd of 1,000 saw "The Play" (a re-run); it didn\'t end. More words'
    )


def test_a_file_may_not_borrow_the_name_of_our_corpus(tmp_path):
    file = tmp_path / "stoic_notes.jsonl"
    file.write_text('{"text": "one"}\n{"text": "two"}\n')
    with pytest.raises(corpora.CorpusError, match="rename the file"):
        corpora.load(f"path:{file}", minimum=1)


def test_a_limit_draws_whole_documents_whatever_their_order(tmp_path):
    corpus = load(written(tmp_path / "long.jsonl", texts(60)))
    less = limited(corpus, 1_000)
    words = [len(d.text.split()) for d in less.documents]
    assert 1_000 - max(words) < sum(words) <= 1_000
    assert [d.id for d in less.documents] == [
        d.id for d in corpus.documents if d.id in {kept.id for kept in less.documents}
    ]
    assert "of 60 documents were drawn" in less.notes[-1]
    assert less.sha256 not in (corpus.sha256, limited(corpus, 2_000).sha256)
    backwards = load(written(tmp_path / "turned" / "long.jsonl", texts(60)[::-1]))
    again = limited(backwards, 1_000)
    assert {d.id for d in again.documents} == {d.id for d in less.documents}


def test_a_limit_leaves_a_small_corpus_alone_and_keeps_enough_to_split(tmp_path):
    corpus = load(written(tmp_path / "long.jsonl", texts(60)))
    assert limited(corpus, 0) is corpus
    assert limited(corpus, 1_000_000) is corpus
    assert len(limited(corpus, 10).documents) == 2
