"""How large the edits of each lane of a generation were, and what they removed of the difference."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from lib.ablation.outcome import Edit
from lib.ablation.tally import EditSums

Activations = Mapping[int, Float[Tensor, "lanes new d"]]
OfBase = Mapping[int, Float[Tensor, "all new d"]]
"""Base on the text of every lane."""


class LaneSizes:
    """Sums over the edited tokens of each lane: the prompt's, then those that it wrote."""

    def __init__(self, skip: int) -> None:
        """``skip``: first positions of the text, which no lane edits."""
        self._skip = skip
        self._sums: dict[tuple[int, int], EditSums] = {}

    def add(
        self,
        place: int,
        row: int,
        start: int,
        before: Activations,
        after: Activations,
        base: OfBase,
    ) -> None:
        """The new tokens of one lane.

        Args:
            place: of the lane among all lanes, as in ``base``.
            row: of the lane in ``before`` and ``after``.
            start: place of the first new token in the text.
        """
        left = max(0, self._skip - start)
        for layer, x in before.items():
            parts = x[row, left:], after[layer][row, left:], base[layer][place, left:]
            if len(parts[0]):
                sums = self._sums.setdefault((place, layer), EditSums())
                sums.add(*(part.to(x.device) for part in parts), None)

    def edits(self, place: int) -> tuple[Edit, ...]:
        """One for each depth; empty for a lane without edits."""
        own = {layer: sums for (at, layer), sums in self._sums.items() if at == place}
        return tuple(sums.edit(layer) for layer, sums in sorted(own.items()))
