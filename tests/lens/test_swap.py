"""The causal test: a planted direction carries all of the change, and nothing else does."""

import pytest
import torch

from lib.lens.against import DIFFERENCE, RANDOM, RANDOM_DIFFERENCE, Row, against
from lib.lens.passes import run_after
from lib.lens.streams import paired
from lib.lens.swap import swap, swapped
from tests.lens.planted import LAYER, D, constant, dependent, normal, texts, vector


@torch.no_grad()
def written(loaded, count, tokens, seed):
    """Text that the model wrote, so that any other model is worse at it."""
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.full((count, 1), loaded.tokenizer.bos_token_id)
    for _ in range(tokens):
        chances = loaded.causal_lm(ids).logits[:, -1].softmax(1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=drawn)], dim=1)
    return ids


def both_texts(loaded):
    corpus = written(loaded, 5, 40, seed=1)
    with loaded.as_base():
        return {"corpus": corpus, "neutral": written(loaded, 6, 30, seed=2)}


def own_loss(loaded, ids):
    with torch.no_grad():
        return float(loaded.causal_lm(ids, labels=ids).loss)


@pytest.fixture(scope="module")
def planted():
    loaded = constant(3 * vector())
    given = both_texts(loaded)
    differences = torch.stack([3 * vector(), torch.zeros(D, dtype=torch.float64)])
    return loaded, given, swap(loaded, differences, given, layer=LAYER, draws=6, batch=4)


# ------------------------------------------------- oracle 14
def test_along_a_planted_vector_the_tuned_model_is_the_base_again(planted):
    loaded, given, found = planted
    rows = [row for row in found.rows if row.direction == DIFFERENCE]
    assert [(r.position, r.draw, r.text) for r in rows] == [(0, 0, "corpus"), (0, 0, "neutral")]
    for row in rows:
        assert row.tuned_loss == pytest.approx(own_loss(loaded, given[row.text]), abs=1e-5)
        with loaded.as_base():
            assert row.base_loss == pytest.approx(own_loss(loaded, given[row.text]), abs=1e-5)
        gap = row.base_loss - row.tuned_loss  # each is better at what it wrote
        assert gap > 0.1 if row.text == "corpus" else gap < -0.1
        assert row.tuned_loss + row.change == pytest.approx(row.base_loss, abs=1e-5)


def test_no_control_does_what_the_planted_direction_does(planted):
    """A random direction holds |cos| of v, so it moves the loss too, but not to the base's."""
    found = planted[2]
    controls = [row for row in found.rows if row.direction != DIFFERENCE]
    kinds = [row.direction for row in controls if row.text == "corpus"]
    assert kinds == [RANDOM] * 6 + [RANDOM_DIFFERENCE] * 6
    assert {row.position for row in controls} == {-1}
    for row in controls:
        gap = row.base_loss - row.tuned_loss
        assert abs(row.change) < 0.8 * abs(gap)
    assert len({row.change for row in controls}) == len(controls)


def test_a_difference_of_no_length_is_not_defined(planted):
    found = planted[2]
    assert found.undefined == (1,)
    assert not any(row.position == 1 for row in found.rows)


def test_sums_over_documents_make_the_change(planted):
    for row in planted[2].rows:
        want = (5, 40) if row.text == "corpus" else (6, 30)
        assert row.document_tokens == (want[1],) * want[0]
        assert row.change == pytest.approx(sum(row.document_change) / (want[0] * want[1]))


# ------------------------------------------------- projections
@torch.no_grad()
def test_all_directions_at_the_last_block_give_exactly_the_base():
    loaded = dependent(layer=1)
    ids = texts(loaded, 4, 20)
    (both,) = paired(loaded, ids, [1])
    basis = torch.linalg.qr(normal(D, D)).Q
    whole = swapped(both.base[1], both.tuned[1], basis)
    with loaded.as_base():
        want = loaded.causal_lm(ids).logits
    got = loaded.causal_lm.lm_head(run_after(loaded, 1, whole))
    assert torch.allclose(got, want, atol=1e-10)
    assert not torch.allclose(loaded.causal_lm(ids).logits, want, atol=1e-2)
    half = swapped(both.base[1], both.tuned[1], basis[:16])
    left = half - both.base[1]  # base inside, tuned outside
    assert (left @ basis[:16].T).abs().max() < 1e-10
    assert torch.allclose(left @ basis[16:].T, (both.tuned[1] - both.base[1]) @ basis[16:].T)


def test_no_direction_and_no_difference_change_the_loss_by_exactly_nothing():
    base, tuned = normal(2, 3, D), normal(2, 3, D, seed=1)
    assert swapped(base, tuned, torch.zeros(0, D, dtype=torch.float64)) is tuned
    loaded = constant(torch.zeros(D, dtype=torch.float64))
    given = both_texts(loaded)
    found = swap(loaded, normal(3, D), given, layer=LAYER, draws=2, batch=2)
    assert len(found.rows) == 2 * (3 + 4)
    assert {row.change for row in found.rows} == {0.0}


def test_half_precision_streams_are_projected_in_single_precision():
    base, tuned = normal(50, D).bfloat16(), normal(50, D, seed=1).bfloat16()
    got = swapped(base, tuned, vector()[None])
    v = vector()
    want = tuned.double() + ((base.double() - tuned.double()) @ v)[:, None] * v
    assert got.dtype == torch.bfloat16
    assert (got.double() - want).abs().max() < 2**-7 * want.abs().max()


def test_controls_follow_the_seed_and_need_neutral_text(planted):
    loaded, given, _ = planted
    short = {"neutral": given["neutral"]}
    how = {"layer": LAYER, "draws": 2, "batch": 4}
    again = swap(loaded, vector()[None], short, **how).rows
    assert again == swap(loaded, vector()[None], short, **how).rows
    other = swap(loaded, vector()[None], short, **how, seed=1).rows
    assert again[0] == other[0] and again[1] != other[1] and again[3] != other[3]
    with pytest.raises(ValueError, match=r"need text named 'neutral'; got \['corpus'\]"):
        swap(loaded, vector()[None], {"corpus": given["corpus"]}, **how)
    assert swap(loaded, vector()[None], {"corpus": given["corpus"]}, layer=LAYER, draws=0).rows
    with pytest.raises(ValueError, match="need two neutral documents, got 1"):
        swap(loaded, vector()[None], {"neutral": given["neutral"][:1]}, **how)


# ------------------------------------------------- against the controls
def row(direction, position, change, tokens=(10, 10), text="corpus"):
    return Row(direction, position, 0, text, sum(change) / sum(tokens), 2.0, 3.0, change, tokens)


def test_ranks_and_excess_by_hand():
    rows = [
        row(DIFFERENCE, 0, (4.0, 2.0)),  # 0.3 a token
        row(DIFFERENCE, 1, (0.0, 1.0)),  # 0.05
        *(row(RANDOM, -1, (c, c)) for c in (0.0, 1.0, 2.0)),  # 0, 0.1, 0.2
        row(RANDOM_DIFFERENCE, -1, (6.0, 0.0)),  # 0.3: a tie counts against the difference
    ]
    got = {(a.position, a.control): a for a in against(rows)}
    assert [*got] == [(j, c) for j in (0, 1) for c in (RANDOM, RANDOM_DIFFERENCE, "both")]
    first = got[0, RANDOM]
    assert (first.change, first.control_change, first.excess) == pytest.approx((0.3, 0.1, 0.2))
    assert (first.p, first.p_min, first.draws, first.documents) == (0.25, 0.25, 3, 2)
    assert (first.low, first.high) == pytest.approx((0.2, 0.4))  # one document or the other
    assert first.excess_low < 0.2 < first.excess_high
    assert got[0, RANDOM_DIFFERENCE].p == 1.0
    assert got[0, "both"].p == pytest.approx(2 / 5)
    assert got[1, RANDOM].p == pytest.approx(3 / 4)
    assert got[1, "both"].control_change == pytest.approx(0.15)


def test_texts_stand_apart_and_one_document_has_no_interval():
    rows = [
        *(row(DIFFERENCE, 0, (1.0,), (5,), text) for text in ("corpus", "neutral")),
        row(RANDOM, -1, (0.5,), (5,)),
        row(RANDOM, -1, (2.0,), (5,), "neutral"),
    ]
    got = against(rows)
    assert [(a.text, a.control, a.p) for a in got] == [
        ("corpus", RANDOM, 0.5),
        ("neutral", RANDOM, 1.0),
    ]
    assert {a.low for a in got} == {a.excess_high for a in got} == {None}
    assert against([row(DIFFERENCE, 0, (1.0,), (5,))]) == []
    with pytest.raises(ValueError, match="did not score the same tokens"):
        against([*rows, row(RANDOM, -1, (2.0,), (6,))])


def test_a_planted_direction_stands_out_from_its_controls(planted):
    """Worse at the tuned model's own text than without any other direction, better at the base's."""
    for found in against(planted[2].rows):
        worse = found.text == "corpus"
        assert found.p == (found.p_min if worse else 1.0)
        assert found.excess_low > 0 if worse else found.excess_high < 0
