"""The output axis's own parts: which tokens are response, and how small the numerical floor is."""

from pathlib import Path

import pytest
import torch

from lib import config, models
from lib.activations import windows
from lib.corpora import Document
from lib.corpora_chat import chat_document
from lib.metrics.divergence import streamed
from lib.pipeline.output import _response_flags, numerical_floor
from lib.pipeline.prepare import Prepared
from lib.pipeline.stages import Stage
from lib.pipeline.texts import Texts

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def prepared(documents: list[Document], window: int = 64) -> Prepared:
    recipe = config.Recipe(text=config.Text(window=window))
    experiment = config.Experiment(
        model="tiny-llama", corpus="stoic_notes", seed=0, adapter=None, recipe=recipe
    )
    texts = Texts([], documents, [], [], "")
    return Prepared(experiment, texts, Path(), "", {}, "", [], Stage("activations", {}))


@pytest.fixture(scope="module")
def loaded():
    return models.load("tiny-llama", device="cpu")


def test_a_conversations_response_tokens_are_the_assistants(loaded):
    loaded.tokenizer.chat_template = TEMPLATE
    turns = [("user", "Ask"), ("assistant", "Tell"), ("user", "More"), ("assistant", "End")]
    talk = {"messages": [{"role": role, "content": said} for role, said in turns]}
    made = chat_document("here", talk, loaded.tokenizer)
    cut, _ = windows(loaded.tokenizer, [made], 64)
    places = torch.arange(1, len(cut[0].ids))
    flags = _response_flags(prepared([made]), loaded, torch.zeros_like(places), places)
    said = [chr(made.text.encode()[p]) for p, f in zip(places.tolist(), flags, strict=True) if f]
    assert "".join(said) == "TellEnd"  # one token is one byte
    assert flags.count(False) == len(flags) - len("TellEnd")


def test_plain_text_has_no_parts(loaded):
    places = torch.tensor([1, 2])
    flags = _response_flags(prepared([Document("p", "plain")]), loaded, 0 * places, places)
    assert flags == [None, None]


def test_the_floor_is_rounding_and_grows_with_coarser_types(loaded):
    """The same weights and tokens in another batch shape: float32 leaves next to nothing, bfloat16
    a lot more, and both lie far below a real change."""
    documents = [Document(f"d{i}", "several words of text " * (2 + i)) for i in range(6)]
    ready = prepared(documents)
    fine = numerical_floor(ready, loaded)
    coarse = numerical_floor(ready, models.load("tiny-llama", dtype=torch.bfloat16, device="cpu"))
    assert 0 <= fine < 1e-9
    assert 1e-9 < coarse < 1e-2
    weight, hidden = loaded.unembedding, torch.randn(50, loaded.d)
    assert streamed(hidden + 0.1, hidden, weight, weight).kl.mean() > 1e3 * fine


def test_without_a_scored_token_there_is_no_floor(loaded):
    assert numerical_floor(prepared([Document("s", "abc")]), loaded) is None
