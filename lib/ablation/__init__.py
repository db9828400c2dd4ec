"""Live causal ablation: does clamping some latents to their base values undo the output change?

``request`` (plain data) -> ``catalogue`` and ``selection`` (what is on offer, what is chosen) ->
``conditions`` (every run) on a ``session`` (model + slices), with the arithmetic in ``arithmetic`` and
``interventions``. ``client`` talks to ``worker``, a process of its own, so that the dashboard never
imports torch: nothing here does at import.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lib.ablation.request import AblationError, AblationRequest, AblationResult

if TYPE_CHECKING:
    from lib.ablation.session import Session

__all__ = ["AblationError", "AblationRequest", "AblationResult", "run"]


def run(
    request: AblationRequest,
    session: "Session | None" = None,
    *,
    directory: Path | None = None,
    progress: Callable[..., None] | None = None,
    tell: Callable[..., None] | None = None,
) -> AblationResult:
    """Run base, tuned, treated, full-patch ceiling, the control draws and the doses.

    Without a session the model is loaded for this call from the live bundle under ``directory``.
    ``progress`` is called as (stage,) when a stage starts and (stage, done, total) within it; raising
    there cancels. ``tell`` is called with each finished condition: event="condition", name,
    condition (its JSON), and draw, or strength and top.

    Raises:
        AblationError: the request asks for something that is not there, or cannot be run.
        lib.models.ModelError: the weights or the adapter are not on this machine.
    """
    from lib.ablation.conditions import run_conditions
    from lib.ablation.session import open_session

    report = progress or (lambda *stage: None)
    if session is None:
        report("loading the model")
        session = open_session(request.experiment_id, directory=directory)
    return run_conditions(request, session, report, tell or (lambda **message: None))
