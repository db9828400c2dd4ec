"""Small live bundles, opened from disk as the worker does it."""

import pytest

from lib import ablation
from lib.ablation import AblationRequest
from lib.ablation.session import open_session
from tests.ablation.bundles import NAMES, PROMPT, write_all


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("precomputed")
    write_all(root)
    return root


@pytest.fixture(scope="session")
def sessions(bundles):
    return {name: open_session(name, directory=bundles, device="cpu") for name in NAMES}


@pytest.fixture(scope="session")
def run_live(sessions):
    """Run a request on one of the bundles; a prompt and three draws where nothing else is asked."""

    def run(name, **fields):
        texts = {} if "documents" in fields else {"prompt": PROMPT}
        request = AblationRequest(experiment_id=name, **{**texts, "draws": 3, **fields})
        return ablation.run(request, sessions[name])

    return run
