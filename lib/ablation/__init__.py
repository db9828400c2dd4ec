"""Live causal ablation: does clamping some latents to their base values undo the output change?

``request`` (plain data) -> ``catalogue`` (what is on offer) -> ``conditions`` (the five runs) on a
``session`` (model + slices), with the arithmetic in ``arithmetic``. ``client`` talks to ``worker``,
a process of its own, so that the dashboard never imports torch: nothing here does at import.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.ablation.request import AblationError, AblationRequest, AblationResult

if TYPE_CHECKING:
    from lib.ablation.session import Session

__all__ = ["AblationError", "AblationRequest", "AblationResult", "clamp", "run"]


def run(
    request: AblationRequest,
    session: "Session | None" = None,
    *,
    directory: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> AblationResult:
    """Run base, tuned, clamped, full-patch ceiling and one matched control on one prompt.

    Without a session the model is loaded for this call from the live bundle under ``directory``.
    ``progress`` is called with the name of each stage as it starts; raising there cancels.

    Raises:
        AblationError: the request asks for something that is not there, or cannot be run.
        lib.models.ModelError: the weights or the adapter are not on this machine.
    """
    from lib.ablation.conditions import run_conditions
    from lib.ablation.session import open_session

    report = progress or (lambda stage: None)
    if session is None:
        report("loading the model")
        session = open_session(request.experiment_id, directory=directory)
    return run_conditions(request, session, report)


def __getattr__(name: str) -> Any:
    """``clamp`` needs torch, so it is imported when asked for."""
    if name == "clamp":
        from lib.ablation.arithmetic import clamp

        return clamp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
