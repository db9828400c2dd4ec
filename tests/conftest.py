"""What every test may rely on: no network, and none of the user's own folders."""

import os
import socket
import subprocess
import sys

import pytest

from lib import paths

os.environ.setdefault("HF_HUB_OFFLINE", "1")

_connect = socket.socket.connect


def _local_only(self, address):
    host = address[0] if isinstance(address, tuple) else "local"
    if host not in {"127.0.0.1", "::1", "localhost", "local"}:
        raise AssertionError(f"a test tried to reach {host}; tests have no network")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", _local_only)


@pytest.fixture(autouse=True)
def _own_main():
    """A page under test becomes ``__main__``, and a process spawned later would run it again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def _own_work_folder(monkeypatch, tmp_path):
    """Pipeline stages never land in the repository's .work."""
    monkeypatch.setenv("INSIDEOUT_WORK", str(tmp_path / "work"))


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory):
    """The real pipeline on tiny-llama, once per session: its folder, with config, work and out."""
    from tests.tiny import write_config

    folder = tmp_path_factory.mktemp("tiny")
    config = write_config(folder)
    subprocess.run(
        [
            *(sys.executable, "-m", "lib", "run", str(config)),
            *("--out", str(folder / "out"), "--quiet", "--jobs", "1"),
        ],
        cwd=paths.ROOT,
        env=os.environ
        | {
            "INSIDEOUT_WORK": str(folder / "work"),
            "INSIDEOUT_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        check=True,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_store(_tiny):
    """Folder of a small real store and its live bundles."""
    return _tiny / "out"


@pytest.fixture(scope="session")
def tiny_work(_tiny):
    return _tiny / "work"


@pytest.fixture(scope="session")
def tiny_config(_tiny):
    return _tiny / "tiny.yaml"


@pytest.fixture
def tiny_cache(_tiny, monkeypatch):
    """Where the tiny run remembered its corpora, so that pages can show their text."""
    monkeypatch.setenv("INSIDEOUT_CACHE", str(_tiny / "cache"))
