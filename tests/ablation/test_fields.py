"""Requests with fields of another type, or texts that no tokenizer reads: refused before a worker.

Asked in a process of its own: the type checks of the test run would refuse them before the product.
"""

import json
import subprocess
import sys

import pytest

from lib import paths

CASES = {
    "ablation(top=2.5)": "top holds 2.5 (float): give a whole number",
    "ablation(top='x')": "top holds 'x' (str): give a whole number",
    "ablation(top=True)": "top holds True (bool)",
    "ablation(seed=10**5000)": "seed holds a number of more than 63 bits",
    "ablation(strength='1')": "strength holds '1' (str): give a number",
    "ablation(strength=10**400)": "strength holds a number past any float",
    "ablation(prompt=None)": "prompt holds None",
    r"ablation(prompt='bad \ud800 end')": "prompt holds half of a surrogate pair (U+D800, character 5)",
    "ablation(prompt='', documents=(1, 2))": "document 1 of 2 holds 1",
    "ablation(prompt='', documents='abc')": "documents holds 'abc' (str): give a list",
    r"ablation(prompt='', documents=('ok', '\udfff'))": "document 2 of 2 holds half of a surrogate",
    r"ablation(neutral=('\ud800',))": "neutral text 1 of 1 holds half",
    "ablation(picked=((0,),))": "picked, part 1 of 1 is (0,) (tuple): give 2",
    "ablation(picked=((0, None),))": "number 2 of 2 holds None",
    "ablation(picked=(1,))": "picked, part 1 of 1 holds 1",
    "ablation(layers=7)": "layers holds 7",
    "ablation(layers=(1.5,))": "layers, part 1 of 1 holds 1.5",
    "ablation(controls='gaussian')": "controls holds 'gaussian'",
    "ablation(experiment_id=None)": "experiment_id holds None",
    "ablation(prompt=b'bytes' * 50)": "... (bytes): give a text",
    "GenerateRequest(ablation=ablation(), temperature='1')": "temperature holds '1'",
    "GenerateRequest(ablation='x')": "ablation holds 'x'",
    "meaning(documents=(1,))": "document 1 of 1 holds 1",
    r"meaning(documents=('\ud800',))": "document 1 of 1 holds half",
    "meaning(latents=(1.5,))": "latents, part 1 of 1 holds 1.5",
    "sent('ablation', prompt='p', picked=[[0]])": "picked, part 1 of 1",
    "sent('ablation', prompt='p', picked=5)": "picked holds 5",
    "sent('ablation', prompt='p', layers={'a': 1})": "layers holds {'a': 1}",
    "sent('meaning', documents=3, layer=0)": "documents holds 3",
    "request_from('generate', {'ablation': []})": "ablation holds []",
    "ablation(picked=((0, 1),), strength=1).id": "8d5588db66d1",
    "ablation(picked=[[0, 1]], strength=1).id": "8d5588db66d1",
    "AblationRequest.from_json(ablation(picked=((0, 1),)).to_json()) == ablation(picked=((0, 1),))":
        "True",
}  # fmt: skip
"""What is asked, and a part of the refusal or the whole answer."""
PROGRAM = """
import json, sys
from functools import partial
from lib.ablation import AblationError, AblationRequest
from lib.ablation.generate import GenerateRequest
from lib.ablation.kinds import request_from
from lib.ablation.meaning import MeaningRequest

def ablation(**fields):
    return AblationRequest(**{"experiment_id": "x", "prompt": "a prompt", **fields})

def meaning(**fields):
    return MeaningRequest(**{"experiment_id": "x", "documents": ("a",), "layer": 0, **fields})

def sent(kind, **fields):
    return request_from(kind, {"experiment_id": "x", **fields})

told = {}
for case in json.load(sys.stdin):
    try:
        told[case] = f"{eval(case)}"
    except AblationError as refusal:
        told[case] = f"{refusal}"
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(list(CASES)), cwd=paths.ROOT, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_fields_of_another_type_are_refused_in_clear_words(told, case):
    assert CASES[case] in told[case]
