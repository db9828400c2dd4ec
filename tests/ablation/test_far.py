"""The remote place against a local service that runs the requests it is sent, as NDIF would."""

import io
import json
import linecache
import os
import shutil
from dataclasses import replace

import pytest
import torch
import zstandard
from peft import LoraConfig, get_peft_model

from lib import models, paths
from lib.ablation import AblationError, AblationRequest, remote
from lib.ablation.bundle import write_bundle
from lib.ablation.catalogue import BundleInfo
from lib.ablation.client import AblationClient
from lib.ablation.far import Far
from lib.ablation.generate import GenerateRequest
from lib.ablation.kinds import kind_of
from lib.ablation.passes import How
from lib.ablation.places import Place
from lib.ablation.results import ResultStore
from lib.ablation.worker import Worker
from tests.ablation.bundles import ATTENTION, PROMPT, random_slice
from tests.ablation.service import ADAPTER, KEY, REPO, Service
from tests.ablation.stand_in import wait

SECRET = "a-secret-key"


def in_cache(home, repo, source):
    """As the hub's client keeps a downloaded repository."""
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    target = folder / "snapshots" / ("0" * 40)
    shutil.copytree(source, target)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return target


@pytest.fixture(autouse=True)
def _own_sources():
    """The service runs in this process, and unpacking a request there replaces far.py's lines here."""
    linecache.clearcache()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A hub cache with a model and an adapter, a bundle on them, and the service."""
    root = tmp_path_factory.mktemp("far")
    loaded = models.load("tiny-llama", device="cpu")
    loaded.model.save_pretrained(root / "model")
    loaded.tokenizer.save_pretrained(root / "model")
    base_hash = loaded.weights_hash
    torch.manual_seed(3)
    config = LoraConfig(init_lora_weights=False, r=4, lora_alpha=8, target_modules=ATTENTION)
    bundle = paths.live_bundle("far", root / "precomputed")
    get_peft_model(loaded.model, config).save_pretrained(bundle / "adapter")
    info = BundleInfo("far", f"hf:{REPO}", "mlp", k=8, n_latents=512, base_hash=base_hash)
    generator = torch.Generator().manual_seed(7)
    for layer in (0, 1):
        write_bundle(bundle, info, layer, **random_slice(generator))
    model = in_cache(root / "hub_home", REPO, root / "model")
    adapter = in_cache(root / "hub_home", ADAPTER, bundle / "adapter")
    return root, model, adapter


@pytest.fixture
def service(world, monkeypatch):
    root, model, adapter = world
    service = Service(model, adapter)
    values = {
        "INSIDEOUT_PRECOMPUTED": str(root / "precomputed"),
        "HF_HOME": str(root / "hub_home"),
        "HF_HUB_OFFLINE": "1",
        remote.SWITCH: "1",
        remote.KEY: SECRET,
        remote.HOST: service.url,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    yield service
    service.close()


@pytest.fixture
def run(service, tmp_path):
    """Run a request in a real worker of this place."""
    clients = []

    def run(request, place="ndif"):
        client = AblationClient(devices=(place,), results=ResultStore(tmp_path))
        clients.append(client)
        return wait(client, client.submit(request))

    yield run
    for client in clients:
        client.close()


def ask(**fields):
    wanted = {"adapter_repo": ADAPTER, "consent": remote.consent_id(), "draws": 2, "top": 4}
    return AblationRequest(experiment_id="far", prompt=PROMPT, **{**wanted, **fields})


def test_a_remote_run_gives_the_numbers_of_this_machine(service, run):
    there, here = run(ask()), run(ask(), "cpu")
    assert (there.message, here.message) == ("", "")
    assert there.result.selected == here.result.selected
    for name in ("base", "tuned", "treated", "ceiling"):
        far, near = (getattr(p.result, name) for p in (there, here))
        assert far.kl == pytest.approx(near.kl, abs=1e-5)
        assert far.share_reversed == pytest.approx(near.share_reversed, abs=1e-4)
    assert there.result.treated.kl != there.result.tuned.kl
    for far, near in zip(there.result.controls, here.result.controls, strict=True):
        assert far.latents == near.latents
        assert far.condition.kl == pytest.approx(near.condition.kl, abs=1e-5)
    assert (there.made["place"], here.made["place"]) == ("ndif", "cpu/fp32")
    assert (there.made["device"], there.made["base_weights"]) == ("ndif", "as NDIF has them")
    assert not here.stored
    # What left this machine: the key where it belongs, text as token ids, none of this program.
    posts = [headers for path, headers in service.asked if path == "/request"]
    assert all(headers["ndif-api-key"] == SECRET for headers in posts)
    assert {path for path, headers in service.asked if SECRET not in str(headers)} == {
        "/status",
        "/result",
    }
    assert [env.get("peft") for env in service.envs[:2]] == [None, ADAPTER]
    for blob in service.sent:
        assert b"jaxtyping" not in blob
        assert b"lib.ablation" not in blob
        assert SECRET.encode() not in blob


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (lambda: ask(consent=""), "holds no consent"),
        (lambda: ask(consent="0" * 16), "consent to another wording"),
        (lambda: ask(intervention="scale_lora", layers=(0,)), "changes the adapter itself"),
        (lambda: ask(adapter_repo=""), "exists on this machine only"),
        (
            lambda: GenerateRequest(ablation=ask(), max_new_tokens=2),
            "prompts and documents only, not 'generate'",
        ),
    ],
)
def test_what_may_not_leave_is_refused_before_anything_is_sent(service, request_, words, tmp_path):
    asked = request_()
    with (tmp_path / "out").open("w+") as out:
        worker = Worker(out, Place("ndif"))
        assert worker.answer({"ticket": "t", "kind": kind_of(asked), "request": asked.to_json()})
        out.seek(0)
        *_, last = map(json.loads, out.read().splitlines())
    assert (last["event"], words in last["message"]) == ("failed", True), last
    assert service.asked == []


def test_an_adapter_that_is_not_published_is_refused(service, run):
    ended = run(ask(adapter_repo="someone/else"))
    assert "someone/else on the hub gives no adapter_config.json" in ended.message
    assert service.asked == []


def test_another_adapter_of_that_name_is_refused(service, run, world):
    other = in_cache(world[0] / "hub_home", "someone/other", world[2])
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1}))
    ended = run(ask(adapter_repo="someone/other"))
    assert "the published adapter someone/other has hash" in ended.message
    assert service.asked == []


def test_a_model_that_is_not_hosted_is_named(service, run):
    service.deployments.pop(next(iter(service.deployments)))
    assert f"NDIF does not run {REPO} now (it runs nothing)" in run(ask()).message
    assert [path for path, _ in service.asked] == ["/status"]


class Harm:
    """What a service could answer to take this machine over."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def packed(value):
    with io.BytesIO() as file:
        torch.save(value, file)
        return zstandard.compress(file.getvalue())


def test_answers_that_are_none(service, far, tmp_path):
    """In one process, since each is a question of its own."""
    harm = tmp_path / "harm"
    shapes = {"seen": {0: torch.zeros(1, 3, 32)}, "hidden": torch.zeros(1, 3, 32)}
    answers = {
        packed({**shapes, "hidden": Harm(harm)}): "NDIF: ",
        b"no archive": "NDIF: ",
        packed([1]): "answered another question",
        packed({**shapes, "hidden": torch.zeros(1, 4, 32)}): "answered another question",
        packed({**shapes, "seen": {}}): "answered another question",
    }
    ids, how = torch.tensor([[0, 5, 6]]), How(layers=(0,), hook="mlp", as_base=True)
    for answer, words in answers.items():
        service.result = answer
        with pytest.raises(AblationError, match=words):
            far.run(ids, how)
    assert not harm.exists()
    service.result, service.failure = None, "the job ran out of memory"
    with pytest.raises(AblationError, match="NDIF: the job ran out of memory; try later"):
        far.run(ids, how)
    service.failure, service.code = "", 401
    with pytest.raises(AblationError, match=r"NDIF: .*the key is not known"):
        far.run(ids, how)
    service.code = 200
    assert far.run(ids, how).hidden.shape == (1, 3, 32)
    with pytest.raises(AblationError, match="continues no text"):
        far.run(ids, replace(how, scale=0.5))


def test_a_service_that_does_not_answer_is_given_up(service, far, monkeypatch):
    monkeypatch.setattr("lib.ablation.far.PATIENCE", 0.0)
    with pytest.raises(AblationError, match="has not answered in 0 s"):
        far.run(torch.tensor([[0, 5, 6]]), How(layers=(0,), hook="mlp", as_base=True))


@pytest.fixture
def far(service):
    """The base alone, without a hub: its shape is the service's own model."""
    from nnsight.modeling.transformers import TransformersModel

    base = TransformersModel(
        service.model.repo_id, task="text-generation", tokenizer=service.model.tokenizer
    )
    return Far(KEY, base, base)
