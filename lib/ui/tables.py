"""Tables under the figures: which columns, in which order, with units and sensible digits."""

from collections.abc import Mapping

import polars as pl
import streamlit as st

_NUMBER = st.column_config.NumberColumn
_CSV = "text/csv"


def show(
    rows: pl.DataFrame,
    columns: dict[str, tuple[str, str | None]],
    *,
    name: str,
    helps: Mapping[str, str] | None = None,
) -> None:
    """A sortable table of some columns, and a button that saves them as CSV with their own names.

    Args:
        columns: column -> (heading with unit, printf format or None for text).
        name: of the CSV file, without ending.
        helps: column -> what its heading says when pointed at.
    """
    helps = helps or {}
    config = {
        column: (
            st.column_config.Column(heading, help=helps.get(column))
            if form is None
            else _NUMBER(heading, format=form, help=helps.get(column))
        )
        for column, (heading, form) in columns.items()
    }
    shown = rows.select(list(columns))
    st.dataframe(
        shown, column_config=config, hide_index=True, width="stretch",
        height="content" if len(shown) <= 16 else 460, key=f"table:{name}", placeholder="",
    )  # fmt: skip
    st.download_button(
        "CSV", shown.write_csv(), f"{name}.csv", _CSV, icon=":material/download:",
        on_click="ignore", key=f"csv:{name}",
    )  # fmt: skip


def with_bounds(name: str, heading: str, form: str) -> dict[str, tuple[str, str | None]]:
    """A value and its 95 % interval as three columns."""
    return {
        name: (heading, form),
        f"{name}_low": (f"{heading} low", form),
        f"{name}_high": (f"{heading} high", form),
    }


AXES = {
    "experiment_id": ("experiment", None), "corpus": ("corpus", None), "regime": ("regime", None),
    **with_bounds("ratio", "peak ratio", "%.3f"),
    "peak_layer": ("peak layer", "%d"),
    "ratio_centred": ("centred ratio", "%.3f"),
    "ratio_in_sample": ("in-sample ratio (warning light)", "%.3f"),
    **with_bounds("excess_fvu", "excess FVU", "%.4f"),
    **with_bounds("displacement", "1 - CKA", "%.4f"),
    **with_bounds("moved", "relative displacement", "%.3f"),
    **with_bounds("kl", "KL, nats", "%.3f"),
    **with_bounds("agreement", "agreement", "percent"),
    "perplexity_base": ("perplexity base", "%.1f"),
    "perplexity_tuned": ("perplexity tuned", "%.1f"),
    "n_documents": ("documents", "%d"), "n_tokens": ("tokens", "%d"),
}  # fmt: skip

CELLS = {
    "corpus": ("corpus", None), "scale": ("scale", None),
    "ratio": ("peak ratio", "%.1f"), "ratio_source": ("source", None),
    "kl": ("KL, nats", "%.3f"), "kl_source": ("source ", None),
    "agreement": ("agreement", "percent"), "agreement_source": ("source  ", None),
    "perplexity_base": ("perplexity", "%.1f"), "perplexity_base_source": ("source   ", None),
    "note": ("note", None),
}  # fmt: skip

AGGREGATES = {
    "name": ("published number", None), "scope": ("over", None), "value": ("value", "%.2f"),
    "source": ("source", None), "note": ("note", None),
}  # fmt: skip

LAYERS = {
    "experiment_id": ("experiment", None), "layer": ("layer", "%d"), "depth": ("depth", "%.2f"),
    **with_bounds("displacement", "1 - CKA", "%.4f"),
    **with_bounds("relative_displacement", "relative displacement", "%.3f"),
    "offset_share": ("offset share", "percent"),
    **with_bounds("ratio", "ratio", "%.3f"),
    "ratio_centred": ("centred ratio", "%.3f"),
    "ratio_in_sample": ("in-sample ratio", "%.3f"),
    **with_bounds("excess_fvu", "excess FVU", "%.4f"),
    "fve_self": ("FVE self", "%.3f"), "fve_cross": ("FVE cross", "%.3f"),
    "ratio_bound": ("ratio bound", "%.2f"), "peak_share": ("is the peak in", "percent"),
    "n_tokens": ("tokens", "%d"),
    "massive_dropped": ("massive tokens dropped", "%d"),
    "massive_energy_base": ("their energy, base", "percent"),
    "massive_energy_tuned": ("their energy, tuned", "percent"),
    "null": ("null: 1 - CKA", None),
}  # fmt: skip
LAYER_HELPS = {
    "displacement": "0 = same geometry; n = tokens; 95 % over documents; null in the last column",
    "relative_displacement": "rms of change / rms of base; 0 = no change; null: hover the figure",
    "offset_share": "of the squared change, what is one constant vector; no interval is stored",
    "ratio": "cross / self error, held-out; 1 = no change; null: the table above",
    "ratio_centred": "without the mean change; no interval is stored; null: the table above",
    "ratio_in_sample": "on training tokens: a warning light, withheld where it is overfitting",
    "excess_fvu": "(cross - self error) / variance; 0 = no change; null: the table above",
    "fve_self": "share of variance that the tuned model's own dictionary explains, held-out",
    "fve_cross": "the same for the base model's dictionary on tuned activations",
    "ratio_bound": "1 / (1 - FVE self): what predicting the mean would score",
    "peak_share": "of resamples of the documents, all depths at once",
    "n_tokens": "held-out tokens behind this row, massive ones left out",
    "massive_dropped": "norm above 5 times the layer's median in either model",
    "massive_energy_base": "share of the layer's sum of squares that they carry",
    "massive_energy_tuned": "share of the layer's sum of squares that they carry",
    "null": "smallest to largest random-LoRA draw of this model at this layer",
}

RUNS = {
    "experiment_id": ("experiment", None), "base_model": ("model", None),
    "corpus": ("corpus", None), "hook": ("hook", None), "rank": ("rank", "%d"),
    "steps": ("steps", "%d"), "seed": ("seed", "%d"),
    "train_tokens": ("training tokens", "%d"), "train_seconds": ("seconds", "%.0f"),
    "loss_first": ("first loss, nats", "%.2f"), "loss_last": ("last loss, nats", "%.2f"),
    "lora_tera": ("LoRA, 1e12 FLOP", "%.1f"), "base_exa": ("base, 1e18 FLOP", "%.1f"),
    "share": ("share of base", "%.1e"), "third": ("of one third", "%.1e"),
    "device": ("device", None), "base_hash": ("base hash", None),
    "adapter_hash": ("adapter hash", None), "data_hash": ("data hash", None),
    "code_hash": ("code hash", None), "versions": ("versions", None),
    "created_at": ("created (UTC)", None),
}  # fmt: skip

DICTIONARIES = {
    "layer": ("layer", "%d"), "kind": ("kind", None),
    "latents": ("latents", "%d"), "latents_asked": ("asked", "%d"), "shrunk": ("shrunk", None),
    "k": ("k", "%d"), "stopped": ("stopped", None), "steps": ("steps", "%d"),
    "fve_base": ("FVE base", "%.3f"), "fve_tuned": ("FVE tuned", "%.3f"),
    "fve_difference": ("FVE of the difference", "%.3f"),
    "l0": ("active per token", "%.1f"), "dead_share": ("dead", "percent"),
    "alive": ("alive", "%d"), "train_tokens": ("train tokens", "%d"),
    "heldout_tokens": ("held-out tokens", "%d"), "seconds": ("seconds", "%.0f"),
}  # fmt: skip
