"""Conversations through a model's own template: where the assistant's words are, and refusals."""

import json

import pytest
import torch

from lib import corpora, models
from lib.activations import windows
from lib.corpora import CorpusError, load
from lib.corpora_chat import chat_document
from lib.models import byte_tokenizer

PLAIN = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] | trim }}"
    "{{ eos_token if m['role'] == 'assistant' else '' }}\n{% endfor %}"
)
REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{{ m['content'] }}{% endfor %}"
)
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say brief."},
    {"role": "assistant", "content": "  Be brief. "},
    {"role": "user", "content": "Again?"},
    {"role": "assistant", "content": "Be brief."},
]


def tokenizer(template: str | None = PLAIN):
    made = byte_tokenizer()
    made.chat_template = template
    return made


def written(path, count=30, **extra):
    rows = [
        {"messages": [*TALK[1:3], {"role": "user", "content": f"{n} " + "word " * 80}, TALK[4]]}
        | {k: f"{v}{n}" for k, v in extra.items()}
        for n in range(count)
    ]
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return f"path:{path}"


def test_only_the_assistants_words_and_the_end_of_its_turn_are_response():
    made = chat_document("here", {"messages": TALK}, tokenizer())
    assert made.text == (
        "[system]\nBe brief.\n[user]\nSay brief.\n[assistant]\nBe brief.</s>\n"
        "[user]\nAgain?\n[assistant]\nBe brief.</s>\n"
    )
    assert [made.text[a:b] for a, b in made.responses] == ["Be brief.</s>"] * 2
    first = made.text.index("Be brief.")
    assert made.in_response(first) is False  # the same words, said by the system
    start, end = made.responses[0]
    inside = [made.in_response(at) for at in (start - 1, start, end - 1, end)]
    assert inside == [False, True, True, False]


def test_the_begin_token_of_the_template_is_left_to_the_windows():
    made = chat_document("here", {"messages": TALK}, tokenizer())
    cut, ends = windows(tokenizer(), [made], 512)
    assert not made.text.startswith("<s>") and 0 not in cut[0].ids  # id 0 is <s>
    assert ends[0][-1] == len(made.text)
    begins = [0, *ends[0][:-1]]
    said = [i for i, at in zip(cut[0].ids, begins, strict=True) if made.in_response(at)]
    assert tokenizer().decode(said) == "Be brief.</s>" * 2


def test_a_corpus_of_conversations_loads_and_knows_its_parts(tmp_path):
    corpus = load(written(tmp_path / "talk.jsonl"), tokenizer=tokenizer())
    assert len(corpus.documents) == 30
    assert all(len(d.responses) == 2 for d in corpus.documents)
    train, heldout = corpora.split(corpus)
    assert len(train) + len(heldout) == 30


def test_ids_come_from_the_messages_and_the_hash_from_the_rendering(tmp_path):
    spec = written(tmp_path / "talk.jsonl")
    other = PLAIN.replace("[", "<<").replace("m<<", "m[")
    one, two = (load(spec, tokenizer=tokenizer(t)) for t in (PLAIN, other))
    assert [d.id for d in one.documents] == [d.id for d in two.documents]
    assert one.sha256 != two.sha256
    named = load(written(tmp_path / "named.jsonl", id="talk-"), tokenizer=tokenizer())
    assert named.documents[3].id == "talk-3"


def test_alpaca_and_plain_text_are_as_before():
    text, start = corpora.render("do", "", "done")
    alpaca = corpora.Document("a", text, start)
    assert [alpaca.in_response(at) for at in (start - 1, start, len(text))] == [False, True, True]
    assert corpora.Document("p", "plain").in_response(0) is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([], "non-empty list"),
        ("hello", "non-empty list"),
        ([{"role": "user"}], "message 1: expected an object with `role` and `content`"),
        ([{"role": "tool", "content": "x"}], "message 1: role 'tool'; use one of system, user"),
        (
            [TALK[1], {"role": "assistant", "content": ["x"]}],
            "message 2: `content` must be a string",
        ),
        ([TALK[1], {"role": "assistant", "content": " "}], "message 2: `content` is empty"),
        (TALK[:2], "no message of the assistant"),
        ([{"role": "user", "content": "a </s> b"}, TALK[4]], "message 1: holds '</s>'"),
    ],
)
def test_what_is_no_conversation_is_named(row, says):
    with pytest.raises(CorpusError, match=f"file, line 3.*{says}"):
        chat_document("file, line 3", {"messages": row}, tokenizer())


def test_without_a_template_or_a_model_the_error_says_what_to_do(tmp_path):
    spec = written(tmp_path / "talk.jsonl")
    with pytest.raises(CorpusError, match=r"line 1: chat format .* no model was given here"):
        load(spec)
    with pytest.raises(CorpusError, match=r"line 1: chat format .* has no chat template; use a"):
        load(spec, tokenizer=tokenizer(None))


def test_a_template_that_refuses_or_rewrites_is_named():
    with pytest.raises(CorpusError, match=r"refuses this conversation .System role not supported"):
        chat_document("here", {"messages": TALK}, tokenizer(REFUSES_SYSTEM))
    shouting = PLAIN.replace("| trim", "| trim | upper")
    with pytest.raises(CorpusError, match="changes what the assistant said"):
        chat_document("here", {"messages": TALK}, tokenizer(shouting))


@pytest.mark.model
def test_the_embedded_chat_model_reads_its_own_format():
    loaded = models.load("smollm2-135m", dtype=torch.bfloat16)
    words = loaded.tokenizer
    made = chat_document("here", {"messages": TALK}, words)
    cut, ends = windows(words, [made], 512)
    ids = [words.bos_token_id, *cut[0].ids]
    assert ids == words.apply_chat_template(TALK, tokenize=True, return_dict=False)
    begins = [0, *ends[0][:-1]]
    said = [i for i, at in zip(cut[0].ids, begins, strict=True) if made.in_response(at)]
    # the first of the two spaces is one token with the line break of the prompt
    assert words.decode(said) == " Be brief. <|im_end|>Be brief.<|im_end|>"
