"""What the marks of the paths are, and who is missing, in one caption. Pure."""

from collections.abc import Sequence

from lib.figures.ground import Cuts
from lib.ui.paths_points import MEAN, PEAK, Asked, Traced
from lib.ui.verdicts import listed

ENOUGH = 20
"""Draws below which a 95 % point is just the largest."""
REMEDY = (
    "Inner change and offset share in these lines are those of neutral text alone (in the figure, of "
    "corpus and neutral text together). The offset share (one constant vector) stands for the readable "
    "trace, which the Lens page reads and this path does not."
)


def _cuts(found: Sequence[Traced]) -> str:
    """The cuts themselves, of every model drawn."""
    cuts = dict.fromkeys(t.cuts for t in found if t.cuts)
    shown = [
        " ".join(part for part in (cut.label * (len(cuts) > 1), _cut(cut)) if part) for cut in cuts
    ]
    return f"; here {', '.join(shown)}" if shown else ""


def _cut(cut: Cuts) -> str:
    ends = {"inner": (cut.internal, ""), "outer": (cut.output, " nats")}
    return " and ".join(
        f"{name} {value:.3g}{unit}" for name, (value, unit) in ends.items() if value is not None
    )


def caption(
    found: Sequence[Traced],
    asked: Asked,
    lacking: Sequence[str],
    unmarked: Sequence[str],
    draws: int,
) -> str:
    """What bars, marks and slopes are, and who is missing.

    Args:
        lacking: names of experiments with a sweep but without this path.
        unmarked: names of those drawn whose own adapter is a point of no path.
        draws: fewest random adapters behind a cut.
    """
    layer = {PEAK: "at that layer, its choice not in it", MEAN: "mean of the layers' bounds"}
    said = [
        "Thin bars: 95 % over documents (inner: "
        f"{layer.get(str(asked.layer), 'at this layer')}). Markers grow with the value; a ring is the "
        "experiment itself."
    ]
    if any(t.cuts for t in found):
        drawn = f"{draws} random adapter{'s' * (draws != 1)}{' (few: rough)' * (draws < ENOUGH)}"
        said.append(
            f"Dotted, and *high* from there on: the reach of {drawn}, at least 0.005 inner and 0.02 "
            f"nats outer{_cuts(found)}."
        )
    if any((t.points["value"] == 0).any() for t in found) and asked.path != "mixing":
        said.append("Value 0 moves nothing and lies outside logarithmic axes.")
    if asked.path == "checkpoint":
        said.append(
            "Checkpoints are of one longer training with its own schedule, not the experiment."
        )
    if asked.path == "scale":
        said.append("Dashed: the small-change law from the smallest scale on.")
    if asked.path == "mixing":
        said.append(REMEDY)
    if unmarked:
        said.append(f"No point is the adapter of {listed(list(unmarked))} itself.")
    if lacking:
        said.append(f"Without this path: {listed(list(lacking))}.")
    return " ".join(said)
