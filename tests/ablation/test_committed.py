"""The committed bundles on the real base: their ceilings against raw PyTorch hooks."""

import pytest
import torch

from lib import ablation, models
from lib.ablation import AblationRequest, catalogue
from lib.ablation.session import open_session
from tests.ablation.bundles import SKIP
from tests.ablation.oracle import ceiling_by_hooks

TEXT = "Begin the day by telling yourself that you will meet with the busy and the ungrateful."


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("experiment", catalogue.experiments())
def test_ceilings_of_committed_adapters_agree_with_raw_hooks(experiment):
    try:
        session = open_session(experiment, device="cpu")
    except models.ModelError as missing:
        pytest.skip(str(missing))
    depths = session.info.layers
    for layers in (depths, depths[-1:]):
        request = AblationRequest(
            experiment_id=experiment, prompt=TEXT, layers=layers, controls=(), top=8
        )
        result = ablation.run(request, session)
        ceiling, tuned = ceiling_by_hooks(session, layers, TEXT)
        got = torch.tensor(result.ceiling.kl_per_token[SKIP:], dtype=torch.float64)
        assert torch.allclose(got, ceiling, atol=1e-5)
        share = 1 - float(ceiling.sum() / tuned.sum())
        assert result.ceiling.share_reversed == pytest.approx(share, abs=1e-5)
        assert result.tuned.kl > 1e-3
