"""Live ablation on a real GPU: right numbers, first-result latency and tokens per second.

Runs only where CUDA is. ``pytest -s`` prints what was measured; the bounds are those of any GPU,
not what a good one reaches.
"""

import time
from dataclasses import replace

import pytest
import torch

from lib import ablation
from lib.ablation import AblationRequest, catalogue
from lib.ablation.passes import How
from lib.ablation.session import open_session
from lib.models import ModelError
from tests.ablation.bundles import NAMES, PROMPT, write_all

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: the GPU is not checked"
)
TOLERANCE = {"fp32": 0.01, "bf16": 0.03}
"""Share of KL reversed, against fp32 on the CPU; TF32 is off in torch unless asked for."""
FIRST_RESULT = 2.0
"""Seconds, warm, for a prompt of 64 tokens: what is asked of two CPU cores."""
TOKENS, REPEATS = 64, 10


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precomputed")
    write_all(folder)
    return folder


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["cuda:0", "auto"])
def test_a_gpu_gives_the_numbers_of_the_cpu(root, name, dtype, device):
    request = AblationRequest(experiment_id=name, prompt=PROMPT, draws=3, top=4)
    there = open_session(name, directory=root, device=device, dtype=dtype)
    here = ablation.run(request, open_session(name, directory=root, device="cpu"))
    found = ablation.run(request, there)
    assert there.place == ("cpu" if device == "auto" else "cuda") + f"/{dtype}"  # tiny: not spread
    for condition in ("tuned", "treated", "ceiling"):
        near, far = (getattr(result, condition).share_reversed for result in (here, found))
        assert far == pytest.approx(near, abs=TOLERANCE[dtype])
    assert [draw.latents for draw in found.controls] == [draw.latents for draw in here.controls]
    assert ablation.run(replace(request, strength=0.0), there).treated.share_reversed == 0


def committed(dtype):
    """The first committed bundle whose weights are here."""
    for name in catalogue.experiments():
        try:
            return open_session(name, device="cuda:0", dtype=dtype)
        except ModelError:
            continue
    pytest.skip("no committed bundle has its base model here (requirements-models.txt)")


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_latency_and_tokens_per_second(dtype):
    session = committed(dtype)
    ids = (session.encode(PROMPT) * 8)[: TOKENS - 1]
    text = session.loaded.tokenizer.decode(ids)
    request = AblationRequest(
        experiment_id=session.info.experiment_id, prompt=text, draws=20, controls=("gaussian",)
    )
    ablation.run(replace(request, draws=1), session)  # warm: kernels are chosen, memory is there

    started, first = time.perf_counter(), []

    def tell(**said):
        if said["name"] == "treated":
            first.append(time.perf_counter() - started)

    result = ablation.run(request, session, tell=tell)
    rate = tokens_per_second(session, torch.tensor([[session.loaded.tokenizer.bos_token_id, *ids]]))
    whole = time.perf_counter() - started
    print(  # noqa: T201
        f"{torch.cuda.get_device_name(0)}, {session.info.base_model}, {dtype}, {TOKENS} tokens: "
        f"treated after {first[0]:.3f} s, 20 draws and all after {whole:.3f} s, "
        f"{rate:,.0f} tokens/s, {torch.cuda.max_memory_allocated() / 1e9:.2f} GB"
    )
    assert first[0] < FIRST_RESULT
    assert result.treated.share_reversed is not None
    assert rate > TOKENS / FIRST_RESULT


def tokens_per_second(session, ids):
    """Of clamp-free traced passes over 20 rows, as the draws of a control are run."""
    rows = ids.expand(20, -1).to(session.loaded.device)
    how = How(layers=session.info.layers, hook=session.info.hook)
    session.run(rows, how)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        session.run(rows, how)
    torch.cuda.synchronize()
    return REPEATS * rows.numel() / (time.perf_counter() - started)
