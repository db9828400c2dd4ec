"""Killed and resumed is the same as uninterrupted, and no failure costs the last checkpoint."""

import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.config import Sparse
from lib.sparse import checkpoint, train

CONFIG = Sparse(k=4, anneal_from=8, batch=128, max_steps=120, evaluate_every=20, lr=3e-3)


def _batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    codes = torch.rand(1500, 24, generator=generator)
    codes *= torch.rand(1500, 24, generator=generator) < 0.1
    x = codes @ torch.randn(24, 10, generator=generator)
    return list(torch.stack([x, x + 0.1 * x.roll(1, 1)], dim=1).split(128))[:-1]


class Stops(Exception):
    """Stands for whatever ends a process."""


def _train(path: Path | None, stop_at: int = 10**9, config: Sparse = CONFIG):
    def progress(step: int, note: str) -> None:
        if step > stop_at:
            raise Stops

    batches = _batches()
    return train(
        batches, config, latents=32, heldout=batches[0], checkpoint=path, progress=progress
    )


@pytest.mark.parametrize("stop_at", [20, 60, 100])
def test_resumed_gives_the_same_bits(tmp_path: Path, stop_at: int):
    whole, log = _train(None)
    path = tmp_path / "training.safetensors"
    with pytest.raises(Stops):
        _train(path, stop_at)
    assert checkpoint.load(path)[1]["steps"] == stop_at
    resumed, again = _train(path)
    for part in ("encoder", "encoder_bias", "decoder", "decoder_bias", "thresholds"):
        assert torch.equal(getattr(whole, part), getattr(resumed, part)), part
    assert again.points == log.points
    assert (again.steps, again.tokens) == (log.steps, log.tokens)


def _child(path: str) -> None:
    torch.set_num_threads(1)
    _train(Path(path), config=replace(CONFIG, max_steps=20_000, flat_gain=-1.0))


def test_kill_nine_leaves_a_checkpoint_that_continues(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(str(path),))
    process.start()
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    tensors, facts = checkpoint.load(path)
    assert facts["steps"] % 20 == 0
    assert torch.isfinite(tensors["weights.decoder"]).all()


def _no_room(path: str, answer) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
    try:
        _train(Path(path))
    except OSError as error:
        answer.send(str(error))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(Stops):
        _train(path, 40)
    before = path.read_bytes()
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_no_room, args=(str(path), send))
    process.start()
    assert receive.poll(60)
    said = receive.recv()
    process.join()
    assert "could not be written" in said
    assert "free some disk space" in said
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(Stops):
        _train(path, 40)
    with pytest.raises(ValueError, match=r"made with another k 4 \(now 5\)"):
        _train(path, config=replace(CONFIG, k=5))


def test_a_damaged_checkpoint_is_named(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(Stops):
        _train(path, 40)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        _train(path)


def test_nan_on_the_way_names_the_step_and_keeps_the_checkpoint(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    clean = _batches()
    poisoned = [*clean * 4, torch.full_like(clean[0], float("nan"))]
    with pytest.raises(ValueError, match=f"diverged at step {len(clean) * 4 + 1}"):
        train(poisoned, CONFIG, latents=32, heldout=clean[0], checkpoint=path)
    assert checkpoint.load(path)[1]["steps"] == len(clean) * 4 // 20 * 20


def test_a_checkpoint_that_lacks_a_part_is_named(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(Stops):
        _train(path, 40)
    tensors, facts = checkpoint.load(path)
    del tensors["silent"], facts["guess"]
    checkpoint.save(path, tensors, facts)
    with pytest.raises(ValueError, match="lacks guess, silent"):
        _train(path)
