"""One prompt: the strip of divergence token by token, and what would come next in every run."""

from collections.abc import Sequence

import numpy as np
import streamlit as st

from lib.ablation import AblationResult
from lib.ablation.outcome import Condition
from lib.evidence.wording import CONTROLS
from lib.figures import theme
from lib.figures.ablation_tokens import by_token, predicted
from lib.ui import ablation_tables, tokens

STRIP = (theme.TUNED, theme.DIFFERENCE)
"""Upper half of a token: before the edit; lower half: after it."""


def show(result: AblationResult) -> None:
    """Strip, next-token tables and the lines; ``result`` is of one prompt."""
    st.markdown("**Where the prediction differs from base**")
    st.html(strip(result))
    st.markdown("**What would come next**")
    st.dataframe(ablation_tables.next_tokens(columns(result)), hide_index=True, width="stretch")
    st.plotly_chart(
        by_token(lines(result), result.tokens),
        config={"displaylogo": False},
        key=f"ablation:tokens:{result.request.id}",
    )


def strip(result: AblationResult) -> str:
    """HTML: each token coloured by the KL of the prediction OF it, before and after the edit."""
    pairs = list(zip(result.tuned.kl_per_token, result.treated.kl_per_token, strict=True))
    full = max([kl for pair in pairs for kl in pair if kl is not None], default=0.0) or 1.0
    marks: list[tokens.Mark | None] = [
        None
        if before is None or after is None
        else tokens.Mark(
            before / full,
            after / full,
            f"KL to base: tuned {before:.3g}, treated {after:.3g} nats",
        )
        for before, after in pairs
    ]
    legend = tokens.legend(("KL to base, tuned", f"treated (full colour: {full:.2g} nats)"), STRIP)
    return legend + tokens.strip(predicted(result.tokens), marks, STRIP)


def columns(result: AblationResult) -> dict[str, Sequence]:
    """Next tokens by the name of their column; of the controls the first draw that has them."""
    runs = {
        "base": result.base, "tuned": result.tuned, "treated": result.treated,
        "full patch": result.ceiling,
    }  # fmt: skip
    first = next((d.condition for d in result.controls if d.condition.next_tokens), None)
    found = {name: run.next_tokens for name, run in runs.items()}
    if first is None:
        return found
    return {**found, f"control: {CONTROLS[first.name]}, 1 draw": first.next_tokens}


def lines(result: AblationResult) -> dict[str, Sequence[float | None]]:
    """KL of every run by token; of the controls the mean over all draws."""
    shown = {
        name: run.kl_per_token
        for name, run in (
            ("tuned", result.tuned), ("treated", result.treated), ("ceiling", result.ceiling)
        )
    }  # fmt: skip
    draws = [draw.condition for draw in result.controls]
    return {**shown, "control": mean_by_token(draws)} if draws else shown


def mean_by_token(runs: Sequence[Condition]) -> list[float | None]:
    """Mean KL over runs at every token, nats; None where not scored."""
    columns = zip(*(run.kl_per_token for run in runs), strict=True)
    return [None if None in column else float(np.mean(column)) for column in columns]
