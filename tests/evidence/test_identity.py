"""Which corpus it was, from read words: shares, ties, corrections and chance by hand."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from lib.evidence.identity import Adapter, identify
from lib.evidence.ranking import Ranked, rank_corpora, shuffled

OWN = {"ads": [1, 2, 3, 4], "letters": [11, 12, 13, 14], "notes": [4, 21, 22, 23]}


def adapter(corpus: str, *positions: tuple[int, ...]) -> Adapter:
    return Adapter(f"m.{corpus}", corpus, positions)


def test_the_corpus_of_the_largest_share_is_named():
    table = identify([adapter("ads", (1, 2, 99, -1), (4, 98, 97, 96))], OWN, 1000)
    (row,) = table.rows
    assert table.corpora == ("ads", "letters", "notes")
    assert table.shares.tolist() == [[2 / 3, 0.0, 1 / 4]]
    assert (row.named, row.right, table.right, table.chance) == ("ads", True, 1, 1 / 3)
    best = row.matches[0]
    assert (best.position, best.best.overlap, best.best.read) == (0, 2, 3)
    # 3 corpora x 2 positions are six tests, and this is the smallest p of them
    assert best.p == pytest.approx(6 * hypergeom.sf(1, 1000, 4, 3))
    assert row.matches[1].p == 1
    assert table.p == pytest.approx(1 / 3)


def test_a_tie_or_no_overlap_names_nothing():
    table = identify(
        [adapter("ads", (4, 50)), adapter("letters", (50, 51)), adapter("notes", (-1, -1))],
        OWN,
        1000,
    )
    assert [row.named for row in table.rows] == ["", "", ""]
    assert table.right == 0 and table.p == 1
    assert table.shares[0].tolist() == [0.5, 0.0, 0.5]
    assert np.isnan(table.shares[2]).all()


def test_three_right_of_three_is_the_binomial_tail():
    adapters = [adapter(name, tuple(words)) for name, words in OWN.items()]
    table = identify(adapters, OWN, 1000)
    assert table.right == 3 and table.p == pytest.approx(1 / 27)
    assert np.diag(table.shares).tolist() == [1.0, 1.0, 1.0]


def test_one_corpus_cannot_be_told_apart():
    with pytest.raises(ValueError, match="1 adapters against 1 corpora"):
        identify([adapter("ads", (1,))], {"ads": [1]}, 10)


def ranked(corpus: str, *high: int) -> Ranked:
    """Of words 1..24 in use, these rank highest, in this order."""
    order = [*high, *(word for word in range(1, 25) if word not in high)]
    return Ranked(f"m.{corpus}", corpus, {w: 1 - i / 24 for i, w in enumerate(order)})


def test_the_area_by_hand():
    ranking = rank_corpora([ranked("ads", 1, 2, 3, 24, 4)], {"ads": [1, 2, 3, 4], "notes": [24]})
    assert ranking.words == 24
    # of 4 x 20 pairs one is the wrong way round; one word below three of twenty-three
    assert ranking.area.tolist() == [[pytest.approx(79 / 80), pytest.approx(20 / 23)]]
    assert np.isnan(ranking.beyond).all() and ranking.named() == ("",)


def test_words_that_rank_high_everywhere_name_no_corpus():
    """Every adapter ranks the words of ads first; beyond that each its own."""
    own = {"ads": [1, 2, 3], "letters": [11, 12, 13], "notes": [21, 22, 23]}
    adapters = [
        ranked("ads", 1, 2, 3, 24, 20, 19, 11, 12, 13, 21, 22, 23),
        ranked("letters", 1, 2, 3, 11, 12, 13, 24, 20, 19, 21, 22, 23),
        ranked("notes", 1, 2, 3, 21, 22, 23, 24, 20, 19, 11, 12, 13),
    ]
    ranking = rank_corpora(adapters, own)
    assert ranking.area.argmax(1).tolist() == [0, 0, 0]
    assert ranking.named() == ("ads", "letters", "notes") and ranking.right == 3
    assert ranking.beyond.sum(0) == pytest.approx(np.zeros(3))
    test = shuffled(ranking)
    assert test.assignments == 6 and test.p == pytest.approx(1 / 6)
    assert test.mean > test.expected
    with pytest.raises(ValueError, match="one per corpus"):
        shuffled(rank_corpora([*adapters, adapters[0]], own))
