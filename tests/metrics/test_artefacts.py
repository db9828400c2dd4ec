"""The six checks, worked by hand: limits, classes and their mirror images, what is not measured."""

import polars as pl
import pytest

from lib.metrics.artefacts import CHECKS, agrees, check, count

GOOD = {
    "class": "shared",
    "seeds": 3,
    "seeds_found": 3,
    "firings": 100,
    "frequency": 0.099,
    "nu_eps": 1.0,
    "nu_r": 1.0,
    "top_document": 0.49,
    "top_position": 0.49,
}


def one(**changed: object) -> pl.DataFrame:
    types = {name: pl.Float64 for name, value in GOOD.items() if isinstance(value, float)}
    types |= {"seeds": pl.Int32, "seeds_found": pl.Int32, "firings": pl.Int64}
    return pl.DataFrame([GOOD | changed], schema_overrides=types)


def test_a_good_latent_passes_everything():
    assert check(one()).row(0, named=True) == dict.fromkeys(CHECKS, True)
    assert count(one()).row(0) == (6, 0)


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({"seeds_found": 2}, "seeds"),
        ({"seeds": 2, "seeds_found": 0}, "seeds"),
        ({"firings": 99}, "firings"),
        ({"frequency": 0.1}, "density"),
        ({"nu_eps": 0.5}, "scaling"),
        ({"class": "new"}, "scaling"),
        ({"top_document": 0.5}, "document"),
        ({"top_position": 0.5}, "position"),
    ],
)
def test_one_number_over_its_limit_fails_one_check(changed, failed):
    found = check(one(**changed)).row(0, named=True)
    assert [name for name in CHECKS if not found[name]] == [failed]
    assert count(one(**changed)).row(0) == (5, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_was_not_measured(value):
    changed = dict.fromkeys(("frequency", "top_document", "top_position"), value)
    found = check(one(**changed)).row(0, named=True)
    assert [name for name in CHECKS if found[name] is None] == ["density", "document", "position"]
    fired = one().with_columns(firings=pl.lit(value), seeds_found=pl.lit(value))
    assert check(fired).select("firings", "seeds").row(0) == (None, None)


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        ({"seeds": None, "seeds_found": None}, ["seeds"]),
        ({"nu_r": None}, ["scaling"]),
        ({"class": "dead"}, ["scaling"]),
        ({"top_document": None, "top_position": None}, ["document", "position"]),
    ],
)
def test_what_was_not_measured_passes_nothing(missing, unknown):
    found = check(one(**missing)).row(0, named=True)
    assert [name for name in CHECKS if found[name] is None] == unknown
    assert count(one(**missing)).row(0) == (6 - len(unknown), len(unknown))


@pytest.mark.parametrize(
    ("name", "nu_eps", "nu_r", "expected"),
    [
        ("new", 0.19, 0.49, True),
        ("new", 0.2, 0.49, False),  # complete shrinkage: the base has it as well
        ("new", 0.19, 0.5, False),  # decoupling: other latents write it in the base
        ("new", -0.1, 0.0, True),
        ("amplified", 0.6, 0.7, True),
        ("amplified", 0.95, 0.7, False),
        ("amplified", 0.6, 1.0, False),
        ("shared", 0.8, 1.25, True),
        ("shared", 0.79, 1.0, False),
        ("shared", 1.0, 1.26, False),
        ("suppressed", 1.2, 1.1, True),
        ("suppressed", 1.1, 1.1, False),
        ("suppressed", 1.2, 1.0, False),
        ("suppressed", -0.1, 1.1, False),
        ("eliminated", 5.1, 2.1, True),
        ("eliminated", -90.0, 30.0, True),  # the tuned side's scale is about 0, of either sign
        ("eliminated", 5.0, 2.1, False),
        ("eliminated", 5.1, 2.0, False),
        ("eliminated", 0.0, 0.0, False),
    ],
)
def test_latent_scaling_confirms_a_class_or_not(name, nu_eps, nu_r, expected):
    rows = pl.DataFrame({"class": [name], "nu_eps": [nu_eps], "nu_r": [nu_r]})
    assert rows.select(agrees(pl.col("class"), pl.col("nu_eps"), pl.col("nu_r"))).item() is expected


def test_many_rows_keep_their_order():
    rows = pl.concat([one(), one(firings=1), one(frequency=0.5, seeds=None)])
    assert count(rows).rows() == [(6, 0), (5, 0), (4, 1)]
    assert check(rows)["firings"].to_list() == [True, False, True]
