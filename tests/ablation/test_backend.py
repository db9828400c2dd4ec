"""Places to run: a stand-in nvidia-smi on the path, a real local server, and never the network."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lib import paths
from lib.ablation import AblationError, backend, remote
from lib.ablation.backend import Need, available, serving
from lib.ablation.remote import consent_id, hosted, require_consent

TWO = "0, GPU-aaa, NVIDIA H200, 143771, 140000, 9.0\n1, GPU-bbb, Tesla T4, 15360, 15000, 7.5\n"
SMALL = Need("smollm2-135m", 134_515_008)


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    """No GPU, no key, and an empty search path to put an nvidia-smi on."""
    for name in ("CUDA_VISIBLE_DEVICES", remote.SWITCH, remote.KEY, remote.HOST):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def smi(tmp_path):
    """Makes nvidia-smi print this, after checking how it was called, and end with this code."""

    def write(text, code=0):
        answer = tmp_path / "answer"
        answer.write_text(text)
        script = tmp_path / "nvidia-smi"
        script.write_text(
            f"#!{sys.executable}\nimport sys\n"
            "query, form = sys.argv[1:]\n"
            "assert query.startswith('--query-gpu=index,uuid,name,memory.total,memory.free,')\n"
            "assert form == '--format=csv,noheader,nounits'\n"
            f"print(open({str(answer)!r}).read(), end='')\nsys.exit({code})\n"
        )
        script.chmod(0o755)

    return write


def by_name():
    return {place.name: place for place in available()}


def test_a_plain_machine_has_its_processor_and_no_remote():
    cpu, ndif = available()
    assert (cpu.name, cpu.device, cpu.precisions, cpu.why_not) == ("cpu", "cpu", ("fp32",), "")
    assert ndif.remote
    assert "INSIDEOUT_REMOTE=1" in ndif.why_not
    assert serving(SMALL) == (cpu,)


def test_gpus_and_what_each_can_do(smi):
    smi(TWO)
    found = by_name()
    assert list(found) == ["cpu", "cuda:0", "cuda:1", "cuda", "ndif"]
    assert found["cuda:0"].title == "GPU 0 (NVIDIA H200)"
    assert found["cuda:0"].precisions == ("fp32", "bf16")
    assert found["cuda:1"].precisions == ("fp32",)  # Turing has no bf16
    assert found["cuda:0"].memory == 140_000 * 2**20
    assert (found["cuda"].device, found["cuda"].precisions) == ("auto", ("fp32",))
    assert found["cuda"].memory == 155_000 * 2**20


def test_one_gpu_is_not_several(smi):
    smi(TWO.splitlines()[0] + "\n")
    assert list(by_name()) == ["cpu", "cuda:0", "ndif"]


@pytest.mark.parametrize("there", [True, False])
def test_several_gpus_together_need_accelerate(smi, monkeypatch, there):
    smi(TWO)
    monkeypatch.setattr(backend, "find_spec", lambda name: object() if there else None)
    refused = by_name()["cuda"].refusal(SMALL)
    assert refused == ("" if there else "needs the package accelerate: install it")


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["Tesla T4"]),
        ("1,0", ["Tesla T4", "NVIDIA H200"]),
        ("GPU-bbb", ["Tesla T4"]),
        ("0,7,1", ["NVIDIA H200"]),
        ("0,0", ["NVIDIA H200"]),
        ("", []),
        ("-1", []),
    ],
)
def test_only_visible_gpus_count_and_they_are_counted_anew(smi, monkeypatch, visible, names):
    smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = [place for name, place in by_name().items() if name.startswith("cuda:")]
    assert [gpu.device for gpu in gpus] == [f"cuda:{i}" for i in range(len(names))]
    assert [gpu.title.split("(")[1][:-1] for gpu in gpus] == names


def test_unknown_memory_is_not_checked(smi):
    smi("0, GPU-aaa, GRID, [N/A], [N/A], [N/A]\n")
    place = by_name()["cuda:0"]
    assert (place.memory, place.precisions) == (None, ("fp32",))
    assert place.refusal(Need("big", 10**12)) == ""


def test_a_broken_driver_is_told(smi):
    smi("Failed to initialize NVML: Driver/library version mismatch\n", code=18)
    place = by_name()["cuda"]
    assert "version mismatch): check the driver" in place.why_not
    assert [p.name for p in serving(SMALL)] == ["cpu"]


def test_what_does_not_fit_is_refused_with_the_numbers(smi):
    smi(TWO)
    place = by_name()["cuda:1"]  # 15.7 GB free
    assert place.refusal(Need("m", 3_000_000_000)) == ""  # 15 GB
    refused = place.refusal(Need("m", 3_500_000_000))
    assert "needs about 17.5 GB, GPU 1 (Tesla T4) has 15.7 GB free" in refused
    assert "has no bf16: choose fp32" in place.refusal(Need("m", 1, "bf16"))
    assert by_name()["cuda:0"].refusal(Need("m", 40_000_000_000, "bf16")) == ""


# ---------------------------------------------------------------- remote


@pytest.fixture
def offered(monkeypatch):
    monkeypatch.setenv(remote.SWITCH, "1")
    monkeypatch.setenv(remote.KEY, "a-secret")


def test_remote_needs_switch_key_and_a_safe_address(offered, monkeypatch):
    assert by_name()["ndif"].why_not == ""
    monkeypatch.setenv(remote.HOST, "http://example.org")
    assert "would send the key unencrypted" in by_name()["ndif"].why_not
    monkeypatch.setenv(remote.HOST, "http://127.0.0.1:9")
    assert by_name()["ndif"].why_not == ""
    monkeypatch.setenv(remote.KEY, "")
    assert "set NDIF_API_KEY" in by_name()["ndif"].why_not
    monkeypatch.setenv(remote.SWITCH, "0")
    assert "are off" in by_name()["ndif"].why_not


def test_the_key_is_not_kept(offered):
    assert "a-secret" not in repr(available())


def test_remote_serves_public_models_with_public_adapters_only(offered):
    place = by_name()["ndif"]
    assert "hub only, and smollm2-135m is not" in place.refusal(SMALL)
    assert "exists on this machine only" in place.refusal(Need("hf:meta-llama/Llama-3.1-8B"))
    published = Need("hf:meta-llama/Llama-3.1-8B", adapter_repo="someone/adapter")
    assert place.refusal(published) == ""
    assert place in serving(published)


def test_nnsight_still_names_adapters_as_we_tell_the_reader():
    """Weights of an adapter are not sent: the request's ``env`` names it."""
    from nnsight.schema.request import RequestModel

    assert RequestModel.model_fields["env"].default == {}
    assert set(RequestModel.model_fields) >= {"model_key", "env"}


def test_consent_is_to_this_wording(monkeypatch):
    with pytest.raises(AblationError, match="holds no consent, so nothing was sent"):
        require_consent("")
    given = consent_id()
    require_consent(given)
    monkeypatch.setattr(remote, "CONSENT", remote.CONSENT + " And more.")
    with pytest.raises(AblationError, match="consent to another wording"):
        require_consent(given)


@pytest.fixture
def server(offered, monkeypatch):
    """A local service that answers what the test puts into ``answer`` and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append((self.path, dict(self.headers)))
            code, body = self.server.answer
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.asked, service.answer = [], (200, b"{}")
    threading.Thread(target=service.serve_forever, daemon=True).start()
    monkeypatch.setenv(remote.HOST, f"http://127.0.0.1:{service.server_port}/")
    yield service
    service.shutdown()
    service.server_close()


def test_hosted_models_are_those_that_run(server):
    deployments = {
        "a": {"repo_id": "meta-llama/Llama-3.1-8B", "application_state": "RUNNING"},
        "b": {"repo_id": "meta-llama/Llama-3.1-8B", "application_state": "RUNNING"},
        "c": {"repo_id": "openai-community/gpt2", "application_state": "RUNNING"},
        "d": {"repo_id": "big/sleeping", "application_state": "NOT_STARTED"},
    }
    server.answer = (200, json.dumps({"deployments": deployments}).encode())
    assert hosted() == ("meta-llama/Llama-3.1-8B", "openai-community/gpt2")
    ((path, headers),) = server.asked
    assert path == "/status"
    assert "a-secret" not in json.dumps(headers)


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (200, b"no json"), (200, b"{}"), (200, b"[]"), (200, b'{"deployments": 3}')],
)
def test_an_answer_that_is_none(server, answer):
    server.answer = answer
    with pytest.raises(
        AblationError, match=r"no usable answer .*try later, or run on this machine"
    ):
        hosted()


def test_nothing_is_asked_while_it_is_off(server, monkeypatch):
    monkeypatch.delenv(remote.SWITCH)
    with pytest.raises(AblationError, match="remote runs are off"):
        hosted()
    available()
    assert server.asked == []


def test_asking_imports_no_torch_and_no_nnsight():
    code = (
        "import sys\nfrom lib.ablation.backend import available\navailable()\n"
        "sys.exit(bool({'torch', 'nnsight'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, env=dict(os.environ), check=False
    )
    assert done.returncode == 0


def test_a_page_is_offered_what_a_place_serves(offered, smi):
    smi(TWO)
    published = Need("hf:meta-llama/Llama-3.1-8B", adapter_repo="someone/adapter")
    ndif, cpu, gpu = (by_name()[name] for name in ("ndif", "cpu", "cuda:0"))
    for unserved, words in (
        ({"kind": "generate"}, "prompts and documents only"),
        ({"intervention": "scale_lora"}, "changes the adapter itself"),
    ):
        need = published._replace(**unserved)
        assert words in ndif.refusal(need)
        assert cpu in serving(need)
        assert ndif not in serving(need)
    assert [gpu.place(p) for p in gpu.precisions] == ["cuda:0", "cuda:0/bf16"]
    assert (cpu.place(), ndif.place("bf16"), by_name()["cuda"].place()) == ("cpu", "ndif", "auto")
