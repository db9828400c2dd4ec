"""The output numbers of one experiment as a table, and in words."""

import polars as pl

from lib.ui.outer import said, table


def row(text: str, part: str, kl: float, wide: float = 0.01, **more: float | None) -> dict:
    names = ("kl", "reverse_kl", "js", "agreement", "perplexity_base", "perplexity_tuned")
    values = {name: 0.5 for name in names} | {"kl": kl}
    ends = {
        f"{n}_{e}": v + s * wide for n, v in values.items() for e, s in (("low", -1), ("high", 1))
    }
    counts = {"n_tokens": 1200, "n_documents": 30, "kl_floor": 2e-7}
    return {"text": text, "part": part, **values, **ends, **counts, **more}


def frame(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), infer_schema_length=None)


def test_every_number_has_interval_n_and_null():
    rows = frame(
        row("neutral", "all", 0.2), row("corpus", "response", 0.4), row("corpus", "all", 0.3)
    )
    found = table(rows, {"corpus": [0.001, 0.0021]})
    assert found.columns[1:] == [
        "its corpus: all tokens", "its corpus: responses", "neutral text: all tokens",
    ]  # fmt: skip
    column = found["its corpus: all tokens"].to_list()
    assert column[0] == "0.300 [0.290, 0.310]"
    assert column[3] == "50.0 [49.0, 51.0]"
    assert column[-3:] == ["1,200, 30", "0.001, 0.0021", "2e-07"]
    assert found["its corpus: responses"].to_list()[-2] == "not measured"
    assert found["neutral text: all tokens"].to_list()[-2] == "not measured"


def test_one_document_has_no_interval_and_says_so():
    alone = row("corpus", "all", 0.3, kl_low=None, kl_high=None)
    assert table(frame(alone), {})["its corpus: all tokens"][0] == (
        "0.300 (one document: no interval)"
    )


def test_words_follow_the_intervals():
    apart = frame(row("corpus", "response", 0.4), row("corpus", "prompt", 0.2))
    assert said(apart).startswith("**The responses of its corpus diverge more")
    turned = frame(row("corpus", "response", 0.2), row("corpus", "prompt", 0.4))
    assert said(turned).startswith("**The prompts of its corpus diverge more")
    near = frame(row("corpus", "response", 0.405), row("corpus", "prompt", 0.4))
    assert "about alike" in said(near) and "n = 1,200 tokens" in said(near)
    assert said(frame(row("corpus", "all", 0.4))) == ""
