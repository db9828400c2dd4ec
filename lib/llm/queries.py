"""Questions to base and tuned model, answered on this machine."""

from pathlib import Path
from typing import Any

from lib import paths
from lib.llm.settings import LLMError


class Models:
    """Base and tuned model of one experiment, loaded with the first question."""

    def __init__(self, row: dict[str, Any], out: Path | None = None) -> None:
        """
        Args:
            row: the experiment, as ``store.read.experiment`` gives it.
            out: folder of the store and the live bundles.
        """
        self._row = row
        self._out = out
        self._loaded: Any = None

    def __call__(self, prompt: str) -> tuple[str, str]:
        """What the base and the tuned model say to a prompt.

        Raises:
            LLMError: the adapter is not on this machine, or is not the one that was measured.
            ModelError: the base model's weights are not here.
        """
        from lib.llm.answers import answer  # torch, which only a question needs

        loaded = self.loaded()
        with loaded.as_base():
            base = answer(loaded, prompt)
        return base, answer(loaded, prompt)

    def loaded(self) -> Any:
        """A ``LoadedModel`` with the adapter on.

        Raises:
            LLMError, ModelError: as a question would.
        """
        self._loaded = self._loaded or self._load()
        return self._loaded

    def check(self) -> None:
        """Refuse before anything is paid for.

        Raises:
            LLMError, ModelError: as a question would.
        """
        from lib import models

        adapter = self._adapter()
        if not adapter.is_dir():
            raise LLMError(
                f"the adapter of {self._row['experiment_id']} is not on this machine ({adapter}), so "
                "it can be asked nothing: take an experiment with a live bundle, or --conditions "
                "lens:0 (agent), --parts relevance (judge)"
            )
        found = models.adapter_hash(adapter)
        if found != self._row["adapter_hash"]:
            raise LLMError(
                f"{adapter} is not the adapter that was measured (hash {found}, the store has "
                f"{self._row['adapter_hash']}): restore it, or run the experiment again"
            )

    def _adapter(self) -> Path:
        return paths.live_bundle(str(self._row["experiment_id"]), self._out) / "adapter"

    def _load(self) -> Any:
        from transformers.utils import logging

        from lib import models

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.check()
        return models.with_adapter(models.load(str(self._row["base_model"])), self._adapter())
