"""Requests with fields of another type, or texts that no tokenizer reads: refused before a worker."""

import pytest

from lib.ablation import AblationError, AblationRequest
from lib.ablation.generate import GenerateRequest
from lib.ablation.kinds import request_from
from lib.ablation.meaning import MeaningRequest

PLAIN = {"experiment_id": "x", "prompt": "a prompt"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"top": 2.5}, r"top holds 2\.5 \(float\): give a whole number"),
        ({"top": "x"}, "top holds 'x'"),
        ({"top": True}, "top holds True"),
        ({"seed": 10**5000}, "seed holds a number of more than 63 bits"),
        ({"strength": "1"}, "strength holds '1' .*: give a number"),
        ({"strength": 10**400}, "strength holds a number past any float"),
        ({"prompt": None}, "prompt holds None"),
        (
            {"prompt": "bad \ud800 end"},
            r"prompt holds half of a surrogate pair \(U\+D800, char.* 5\)",
        ),
        ({"prompt": "", "documents": (1, 2)}, "document 1 of 2 holds 1"),
        ({"prompt": "", "documents": "abc"}, "documents holds 'abc' .*: give a list"),
        (
            {"prompt": "", "documents": ("ok", "\udfff")},
            "document 2 of 2 holds half of a surrogate",
        ),
        ({"neutral": ("\ud800",)}, "neutral text 1 of 1 holds half"),
        ({"picked": ((0,),)}, r"picked, part 1 of 1 is \(0,\) .*: give 2"),
        ({"picked": ((0, None),)}, "number 2 of 2 holds None"),
        ({"picked": (1,)}, "picked, part 1 of 1 holds 1"),
        ({"layers": 7}, "layers holds 7"),
        ({"layers": (1.5,)}, r"layers, part 1 of 1 holds 1\.5"),
        ({"controls": "gaussian"}, "controls holds 'gaussian'"),
        ({"experiment_id": None}, "experiment_id holds None"),
        ({"prompt": b"bytes" * 50}, r"prompt holds b'bytes.*\.\.\. \(bytes\)"),
    ],
)
def test_fields_of_another_type_are_refused_in_clear_words(fields, told):
    with pytest.raises(AblationError, match=told):
        AblationRequest(**{**PLAIN, **fields})


def test_other_kinds_of_requests_are_checked_too():
    with pytest.raises(AblationError, match="temperature holds '1'"):
        GenerateRequest(ablation=AblationRequest(**PLAIN), temperature="1")
    with pytest.raises(AblationError, match="ablation holds 'x'"):
        GenerateRequest(ablation="x")
    for fields, told in (
        ({"documents": (1,)}, "document 1 of 1 holds 1"),
        ({"documents": ("\ud800",)}, "document 1 of 1 holds half"),
        ({"documents": ("a",), "latents": (1.5,)}, "latents, part 1 of 1"),
    ):
        with pytest.raises(AblationError, match=told):
            MeaningRequest(**{"experiment_id": "x", "layer": 0, **fields})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("ablation", {**PLAIN, "picked": [[0]]}),
        ("ablation", {**PLAIN, "picked": 5}),
        ("ablation", {**PLAIN, "layers": {"a": 1}}),
        ("generate", {"ablation": []}),
        ("meaning", {"experiment_id": "x", "documents": 3, "layer": 0}),
    ],
)
def test_what_a_worker_is_sent_is_refused_not_fatal(kind, data):
    with pytest.raises(AblationError):
        request_from(kind, data)


def test_what_may_stand_for_another_type_keeps_its_id():
    whole = AblationRequest(**PLAIN, picked=((0, 1),), strength=1)
    assert whole.id == "8d5588db66d1"
    assert AblationRequest.from_json(whole.to_json()) == whole
    assert AblationRequest(**PLAIN, picked=[[0, 1]], strength=1).id == whole.id
