"""What went wrong in a run, in plain words, and what the worker has to do about it."""

from typing import NamedTuple

from lib.ablation.request import AblationError

_FULL = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
_LOST = ("cuda error", "device-side assert", "hip error", "device lost")
ADVICE = (
    "shorten the prompt, choose fewer depths or control draws, or close other programs that use "
    "this memory. The models were unloaded and are loaded anew for the next run."
)


class Failure(NamedTuple):
    """One failed run."""

    message: str
    """For the reader: what happened and what to do."""
    clear: bool = False
    """Whether the models in memory must go before the next run."""
    fatal: bool = False
    """Whether only a new process can go on: a lost device answers nobody in this one."""


def explain(error: Exception, stage: str) -> Failure:
    """Sort an error of a run.

    A request that cannot be run leaves the models alone. Memory that ran out and any other error of
    the library unload them, since either may have left them half changed.

    Args:
        stage: what the worker was doing.
    """
    import torch

    told = str(error).strip() or type(error).__name__
    if isinstance(error, AblationError):
        return Failure(told)  # its text may quote the request, which may say anything
    low = told.lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in low for w in _FULL):
        return Failure(f"Out of memory ({stage}): {ADVICE} ({_first_line(told)})", clear=True)
    if isinstance(error, torch.AcceleratorError) or any(w in low for w in _LOST):
        return Failure(
            f"The device was lost ({stage}): {_first_line(told)}. A new model worker starts with "
            "the next run; if that fails too, look at the device or run on the CPU.",
            fatal=True,
        )
    if isinstance(error, ValueError | OSError):
        return Failure(told)
    return Failure(
        f"{type(error).__name__} ({stage}): {told} (the model is loaded anew for the next run)",
        clear=True,
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300]
