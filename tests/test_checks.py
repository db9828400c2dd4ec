"""A latent's artefact checks in words: value, limit and comparison, worked by hand."""

from lib.ui.checks import badge, lines

ROW = {
    "class": "new",
    "seeds": 3,
    "seeds_found": 2,
    "seed_cosine": 0.754,
    "change_cosine": -0.2,
    "firings": 1234,
    "frequency": 0.0151,
    "nu_eps": 0.1,
    "nu_r": 0.6,
    "documents": 40,
    "top_document": 0.125,
    "top_position": 0.75,
}
SUMMARY = {
    "seeds": 0.5,
    "firings": 1.0,
    "density": 0.97,
    "scaling": None,
    "document": 1.0,
    "position": 1.0,
    "mean_firings": 2000.4,
    "mean_frequency": 0.0211,
    "top_document": 0.05,
    "top_position": 0.004,
}


def test_every_line_by_hand():
    found = [tuple(line)[:2] + tuple(line)[3:] for line in lines(ROW, SUMMARY, 0.21)]
    assert found == [
        (
            False,
            "survives 2 of 3 seeds",
            "2 of 3 seeds, cosine 0.75, of its change -0.20",
            "every seed, cosine 0.7 or more",
            "chance: cosine 0.21",
            0.5,
        ),
        (True, "enough firings", "1,234 tokens", "at least 100", "mean here: 2,000 tokens", 1.0),
        (True, "selective", "on 1.51 % of tokens", "below 10 %", "mean here: 2.11 %", 0.97),
        (
            False,
            "class not confirmed",
            "nu error 0.10, nu rec. 0.60",
            "nu error < 0.2, nu rec. < 0.5",
            "alike in both models: 1",
            None,
        ),
        (
            True,
            "many documents",
            "12.5 % of its firings in one of 40",
            "below 50 % in one",
            "median here: 5.0 %",
            1.0,
        ),
        (
            False,
            "one position",
            "75.0 % of its firings in one",
            "below 50 % in one",
            "median here: 0.4 %",
            1.0,
        ),
    ]


def test_a_latent_without_any_number_passes_nothing_and_fails_nothing():
    row = dict.fromkeys(ROW) | {"class": "dead"}
    found = lines(row, dict.fromkeys(SUMMARY), None)
    assert [line.passed for line in found] == [None] * 6
    assert [line.short for line in found] == [
        *("seeds", "firings", "density", "class", "documents", "positions")
    ]
    assert {line.value for line in found} == {"not measured"}
    assert found[3].limit == "a dead feature has no class"


def test_a_badge_marks_what_is_unknown():
    assert (badge(6, 0), badge(4, 1)) == ("6/6", "4/6 ?")
