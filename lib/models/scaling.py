"""An adapter at a fraction of its strength, for a while: the way from the base to the tuned model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lib.models.adapters import adapted
from lib.models.loaded import LoadedModel, ModelError


def reaches_base(loaded: LoadedModel) -> bool:
    """Whether the adapter at strength 0 is the base: not where it also replaces weights.

    Modules trained in full, biases of the base and magnitudes (DoRA) stay as they are when the low-rank
    part is scaled down.
    """
    found = getattr(loaded.model, "peft_config", {}).values()
    return bool(found) and all(
        not (c.modules_to_save or getattr(c, "use_dora", False)) and c.bias == "none" for c in found
    )


@contextmanager
def scaled_adapter(
    loaded: LoadedModel, factor: float, layers: Sequence[int] | None = None
) -> Iterator[None]:
    """The adapter at ``factor`` times its strength; as it was afterwards.

    Args:
        layers: only in these blocks; None = everywhere.

    Raises:
        ModelError: the adapter changes nothing there, so there is nothing to scale.
    """
    where = [loaded.causal_lm] if layers is None else [loaded.block(layer) for layer in layers]
    parts = [part for module in where for part in adapted(module)]
    if not parts:
        place = "the model" if layers is None else f"depth {list(layers)}"
        raise ModelError(f"the adapter changes nothing at {place}: there is nothing to scale")
    former = [dict(part.scaling) for part in parts]
    try:
        for part in parts:
            part.scaling.update({name: factor * s for name, s in part.scaling.items()})
        yield
    finally:
        for part, scaling in zip(parts, former, strict=True):
            part.scaling.update(scaling)
