"""The models that a worker holds in memory, and giving that memory back."""

import gc
from collections import OrderedDict
from typing import TYPE_CHECKING

from lib.ablation import catalogue
from lib.ablation.limits import AblationError
from lib.ablation.places import NDIF, Place
from lib.ablation.versions import bundle_hash

if TYPE_CHECKING:
    from lib.ablation.session import Session

ANYWHERE = Place(None)
KEPT_SESSIONS = 2
"""Models held in memory at once; the one unused for longest goes first."""


class Sessions:
    """Loaded experiments, reloaded when the pipeline has published a bundle anew."""

    def __init__(self, place: Place = ANYWHERE) -> None:
        self._place = place
        self._kept: OrderedDict[tuple[str, str, str], Session] = OrderedDict()

    @property
    def loaded(self) -> list[str]:
        """Experiments in memory, the one unused for longest first."""
        return [experiment_id for experiment_id, _, _ in self._kept]

    def get(self, experiment_id: str, adapter_repo: str = "") -> tuple["Session", str]:
        """A session and the hash of the bundle that it was opened from.

        Args:
            adapter_repo: public hub name of the adapter, for the remote place.

        Raises:
            AblationError: no bundle, one that does not fit, or one that changes at this moment.
            lib.models.ModelError: the weights or the adapter are not on this machine.
        """
        bundle = catalogue.bundle_of(experiment_id)
        key = (experiment_id, bundle_hash(bundle), adapter_repo)
        if key not in self._kept:
            for stale in [k for k in self._kept if k[0] == experiment_id]:
                del self._kept[stale]
            while len(self._kept) >= KEPT_SESSIONS:
                self._kept.popitem(last=False)
            free_memory()
            session = self._open(experiment_id, adapter_repo)
            if bundle_hash(bundle) != key[1]:
                raise AblationError(f"{bundle} was published anew while it was read: run again")
            self._kept[key] = session
        self._kept.move_to_end(key)
        return self._kept[key], key[1]

    def _open(self, experiment_id: str, adapter_repo: str) -> "Session":
        device, dtype = self._place
        if device == NDIF:
            from lib.ablation.far_session import open_far

            return open_far(experiment_id, adapter_repo)
        from lib.ablation.session import open_session

        return open_session(experiment_id, device=device, dtype=dtype)

    def clear(self) -> None:
        self._kept.clear()
        free_memory()


def free_memory() -> None:
    """Give memory of dropped models back, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
