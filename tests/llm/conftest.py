"""No test sees the endpoint of whoever runs it."""

import pytest

from lib.llm.settings import GRADER, KEY, MODEL, URL
from tests.llm import small


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch):
    for name in (URL, KEY, MODEL, GRADER):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """Folder of a store that no test writes to."""
    return small.make(tmp_path_factory.mktemp("small"))
