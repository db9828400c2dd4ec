"""Where a model runs: precisions, devices, and results of one place that are not another's."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from lib import ablation, models, paths
from lib.ablation import AblationError, backend
from lib.ablation.catalogue import read_info, write_info
from lib.ablation.client import AblationClient
from lib.ablation.places import Place, kinds, place
from lib.ablation.results import ResultStore
from lib.ablation.session import open_session
from lib.models import ModelError
from tests.ablation.bundles import PROMPT, write_all
from tests.ablation.stand_in import ask, bench, key_of, record, wait  # noqa: F401

CONDITIONS = ("tuned", "treated", "ceiling")
BOTH = ("--device", "cuda:1", "--dtype", "bf16")
KL_TOLERANCE = 0.03
"""Of a KL in bf16 against fp32, relative: 8 bits of mantissa are 0.4 % at each of a dozen roundings."""
SHARE_TOLERANCE = 0.03


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precomputed")
    write_all(folder)
    return folder


def request(name, **fields):
    return ablation.AblationRequest(
        experiment_id=name, prompt=PROMPT, **{"draws": 2, "top": 4, **fields}
    )


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("name", ["planted", "both", "last"])
def test_bf16_answers_are_close_to_fp32(root, name):
    fine = open_session(name, directory=root, device="cpu")
    coarse = open_session(name, directory=root, device="cpu", dtype="bf16")
    assert (coarse.loaded.dtype, coarse.place) == (torch.bfloat16, "cpu/bf16")
    assert (fine.loaded.dtype, fine.place) == (torch.float32, "cpu/fp32")
    assert coarse.weights == fine.weights
    a, b = (ablation.run(request(name), session) for session in (fine, coarse))
    assert a.selected == b.selected
    assert a.tuned.kl != b.tuned.kl
    for condition in CONDITIONS:
        near, far = getattr(a, condition), getattr(b, condition)
        assert far.kl == pytest.approx(near.kl, rel=KL_TOLERANCE, abs=0.01 * a.tuned.kl)
        assert far.share_reversed == pytest.approx(near.share_reversed, abs=SHARE_TOLERANCE)
    assert b.base.kl == 0
    assert [d.latents for d in a.controls] == [d.latents for d in b.controls]


def test_no_edit_changes_nothing_in_bf16_either(root):
    coarse = open_session("both", directory=root, device="cpu", dtype="bf16")
    for unchanged in (request("both", strength=0.0), request("both", top=0)):
        assert ablation.run(unchanged, coarse).treated.share_reversed == 0
    # Patching base into the stream after the last block makes the tuned model the base one.
    whole = open_session("last", directory=root, device="cpu", dtype="bf16")
    assert ablation.run(request("last"), whole).ceiling.share_reversed == 1


def test_another_base_is_refused_in_bf16_too(root, tmp_path):
    other = paths.live_bundle("both", tmp_path)
    shutil.copytree(paths.live_bundle("both", root), other)
    info = read_info(other)
    write_info(other, replace(info, base_hash="0" * 16))
    told = f"weights {'0' * 16}, tiny-llama here has {info.base_hash}"
    for dtype in ("fp32", "bf16"):
        with pytest.raises(AblationError, match=told):
            open_session("both", directory=tmp_path, device="cpu", dtype=dtype)


# ---------------------------------------------------------------- devices


@pytest.fixture
def folder(tmp_path):
    model, tokenizer = models.tiny_llama()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_spread_model_is_the_same_model(folder, monkeypatch):
    whole = models.load(str(folder), device="cpu")
    asked, real = [], LlamaForCausalLM.from_pretrained.__func__

    def placed(cls, *args, **more):
        asked.append(more["device_map"])
        return real(cls, *args, **more)

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", classmethod(placed))
    spread = models.load(str(folder), device="auto")
    assert asked == ["auto"]
    assert spread.weights_hash == whole.weights_hash
    ids = torch.tensor([[0, 7, 9, 30]], device=spread.device)
    with torch.no_grad():
        there, here = (m.model(ids.to(m.device)).logits.cpu() for m in (spread, whole))
    assert torch.equal(there, here) or torch.cuda.is_available()
    torch.testing.assert_close(there, here, atol=1e-3, rtol=1e-3)


def test_a_model_that_is_spread_needs_accelerate(folder, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the package accelerate: pip install accelerate"):
        models.load(str(folder), device="auto")
    models.load(str(folder), device="cpu")


def test_parts_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError, match=r"does not fit .*1 parts such as 'model.layers.9'"):
        models._check_spread("big", {"model.layers.8": 0, "model.layers.9": "cpu"})
    models._check_spread("big", {"model.layers.8": 0, "model.layers.9": 1})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(root, monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="finds no GPU; install a CUDA build of torch"):
        models.load("tiny-llama", device="cuda:0")
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
    client = AblationClient(devices=("cuda:0",), results=ResultStore(tmp_path))
    try:
        ended = wait(client, client.submit(request("both")))
        assert (ended.phase, "finds no GPU" in ended.message) == ("failed", True)
    finally:
        client.close()


# ---------------------------------------------------------------- places as words


@pytest.mark.parametrize(
    ("word", "read", "options", "kind"),
    [
        ("cpu", Place("cpu"), ("--device", "cpu"), "cpu/fp32"),
        ("cuda:1/bf16", Place("cuda:1", "bf16"), BOTH, "cuda/bf16"),
        ("auto", Place("auto"), ("--device", "auto"), "cuda/fp32"),
        ("/bf16", Place(None, "bf16"), ("--dtype", "bf16"), "cpu/bf16"),
        (None, Place(None), (), "cpu/fp32"),
        ("ndif", Place("ndif"), ("--device", "ndif"), "ndif"),
    ],
)  # fmt: skip
def test_a_place_in_a_word(monkeypatch, word, read, options, kind):
    monkeypatch.setattr(backend, "default_device", lambda: "cpu")
    assert place(word) == read
    assert (place(word).options, place(word).kind) == (options, kind)


def test_an_unknown_precision_is_refused():
    with pytest.raises(AblationError, match=r"'cpu/int4' asks for the precision 'int4'"):
        place("cpu/int4")
    with pytest.raises(AblationError, match="int4"):
        AblationClient(devices=("cpu/int4",))


def test_gpus_of_one_machine_are_one_kind():
    assert kinds(["cuda:0", "cuda:1", "cuda:0/bf16", "cpu"]) == (
        "cuda/fp32",
        "cuda/bf16",
        "cpu/fp32",
    )


@pytest.mark.parametrize("built", ["2.9.0", "2.9.0+cpu"])
def test_the_default_device_without_torch(monkeypatch, built):
    backend.default_device.cache_clear()
    gpu = backend.Backend("cuda:0", "GPU 0", "cuda:0", ("fp32",))
    monkeypatch.setattr(backend, "_gpus", lambda: (gpu,))
    monkeypatch.setattr(backend.metadata, "version", lambda name: built)
    assert backend.default_device() == ("cpu" if built.endswith("cpu") else "cuda")
    backend.default_device.cache_clear()


# ---------------------------------------------------------------- results of a place


def test_a_result_of_another_precision_is_another_result(root, monkeypatch, tmp_path):
    monkeypatch.setenv("INSIDEOUT_PRECOMPUTED", str(root))
    store, asked = ResultStore(tmp_path), request("both", controls=())
    ended = {}
    for word in ("cpu", "cpu/bf16"):
        client = AblationClient(devices=(word,), results=store)
        try:
            ended[word] = wait(client, client.submit(asked))
            again = wait(client, client.submit(asked))
            assert again.result == ended[word].result
        finally:
            client.close()
    assert [p.stored for p in ended.values()] == [False, False]
    assert [p.made["place"] for p in ended.values()] == ["cpu/fp32", "cpu/bf16"]
    fine, coarse = (p.result.treated.kl for p in ended.values())
    assert fine != coarse
    assert fine == pytest.approx(coarse, rel=KL_TOLERANCE)
    # Both are kept: a client of either place is answered from the store, and by its own.
    for word, before in ended.items():
        client = AblationClient(devices=(word,), results=store)
        found = wait(client, client.submit(asked))
        assert (found.stored, found.result) == (True, before.result)
        client.close()


def test_workers_of_several_places_share_their_results(bench):  # noqa: F811
    key = key_of(ask())._replace(place="cuda/bf16")
    bench.store.put(record(ask(), key=key))
    both, other = bench.client(devices=["cpu", "cuda:0/bf16"]), bench.client(devices=["cpu"])
    assert wait(both, both.submit(ask())).stored
    assert not wait(other, other.submit(ask())).stored


def test_requests_of_this_machine_have_their_ids_as_before():
    asked = ask()
    assert "consent" not in asked.to_json()
    assert "adapter_repo" not in asked.to_json()
    agreed = ask(consent="x", adapter_repo="a/b")
    assert agreed.id != asked.id
    assert type(asked).from_json(json.loads(json.dumps(agreed.to_json()))) == agreed


def test_a_word_imports_no_torch():
    code = (
        "import sys\nfrom lib.ablation.places import kinds\nkinds([None, 'cuda:0/bf16', 'ndif'])\n"
        "sys.exit(bool({'torch', 'nnsight'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False)
    assert done.returncode == 0
