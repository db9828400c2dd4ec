"""Wrong things to every metric: an error, or an explicit "not measured" (None, NaN), never a number.

NaN activations, a constant layer, one document, other vocabularies, other tokens, fewer than three
points. Shape checks of the type annotations are switched off here: users run without them, and torch
would broadcast one token against many.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import config

import lib.metrics
from lib.metrics.angles import Chance, max_cosine, principal_angles, span
from lib.metrics.attainable import attainable
from lib.metrics.cka import (
    LeftOut,
    StreamingCKA,
    cka_interval,
    debiased_cka,
    grouped_cka,
    jackknife_cka,
    linear_cka,
)
from lib.metrics.displacement import Displacement, displacement
from lib.metrics.divergence import kl_per_token, streamed
from lib.metrics.intervals import (
    bootstrap,
    bootstrap_mean,
    bootstrap_ratio,
    jackknife_interval,
    percentiles,
    resample_counts,
    sums_by_group,
)
from lib.metrics.latents import LatentScaling, classify_latents, delta_norm, shares
from lib.metrics.massive import massive_tokens
from lib.metrics.matching import match
from lib.metrics.paths import course, crossing, departure, slope
from lib.metrics.peak import peak_of_sums, peak_ratio
from lib.metrics.profile import late_minus_mid, late_part, late_start
from lib.metrics.ranks import pair, rank_correlation, ranks, unit_ranks
from lib.metrics.reconstruction import bootstrap_ratio as ratio_intervals
from lib.metrics.reconstruction import cross_ratio, error_sums, fve
from lib.metrics.regimes import classify, distance, median_cuts, null_cuts
from lib.metrics.shares import Share, excess, late_envelope, late_share, wilson
from lib.metrics.stability import change_cosine, random_cosine, shuffled_cosine, stability
from lib.metrics.statistics import (
    holm,
    leave_one_out,
    measurement_error,
    partial_spearman,
    spearman_exact,
    stratified_spearman,
)
from lib.metrics.support import Sampled, judge, sample_axis

N, D, V = 24, 6, 50


class Case(NamedTuple):
    """One call that has no answer."""

    of: Callable[..., Any]
    what: str
    call: Callable[[], Any]
    says: str | None
    """Pattern of the error; None where the answer itself says that there is none."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spoiled(view: torch.Tensor, value: float = math.nan) -> torch.Tensor:
    broken = view.clone()
    broken.view(-1)[5] = value
    return broken


X, Y, FLAT, ONE = normal(N, D), normal(N, D, seed=1), torch.full((N, D), 0.1), normal(1, D)
GROUPS, ALONE = torch.arange(N) // 4, torch.zeros(N, dtype=torch.int64)
W = normal(V, D, seed=2)
NAN = math.nan


def measured(cls: type, *update: Any) -> Any:
    """Value of a streaming metric after one update."""
    made = cls(D, D) if cls is StreamingCKA else cls(D)
    made.update(*update)
    return made.value()


def scaled(x: torch.Tensor, x_hat: torch.Tensor, codes: torch.Tensor, decoder: torch.Tensor) -> Any:
    scaling = LatentScaling(decoder[:, 1])
    scaling.update(x, x_hat, codes, decoder)
    return scaling.value()


def of_two_views() -> Iterator[Case]:
    """Metrics of paired activations; each gets NaN on either side, a constant, other tokens."""
    calls = {
        linear_cka: linear_cka,
        debiased_cka: debiased_cka,
        StreamingCKA: lambda x, y: measured(StreamingCKA, x, y),
        grouped_cka: lambda x, y: grouped_cka(x, y, GROUPS[: len(x)]),
        jackknife_cka: lambda x, y: jackknife_cka(x, y, GROUPS[: len(x)]),
        Displacement: lambda x, y: measured(Displacement, x, y),
        displacement: lambda x, y: displacement(x, y, GROUPS[: len(x)]),
        fve: fve,
        massive_tokens: massive_tokens,
    }
    for of, call in calls.items():
        for name, sides in {"first": (spoiled(X), Y), "second": (X, spoiled(Y))}.items():
            for value in (NAN, math.inf):
                views = tuple(torch.nan_to_num(v, nan=value, posinf=value) for v in sides)
                yield Case(
                    of, f"{value} in the {name}", lambda c=call, v=views: c(*v), "not finite"
                )
        for name, sides in {"one token": (X, ONE), "fewer tokens": (X, Y[:-1])}.items():
            yield Case(of, name, lambda c=call, v=sides: c(*v), "do not pair up")
        yield Case(of, "no tokens", lambda c=call: c(X[:0], Y[:0]), "no tokens|are 0 tokens")
        if "cka" in of.__name__.lower():
            yield Case(of, "one axis", lambda c=call: c(X[:, 0], Y), r"x has shape \(24,\), not 2")
            yield Case(of, "one axis of y", lambda c=call: c(X, Y[:, 0]), "y has shape .* not 2")
        if of is not massive_tokens:
            yield Case(of, "constant", lambda c=call: c(FLAT, Y), "constant over")
    yield Case(massive_tokens, "silent", lambda: massive_tokens(0 * X, Y), "median norm 0")
    for of in (linear_cka, debiased_cka):
        yield Case(of, "two tokens", lambda f=of: f(X[:2], Y[:2]), "there are 2|at least 4 tokens")
        yield Case(of, "two wide tokens", lambda f=of: f(W[:2], W[2:4]), "there are 2|at least 4")
    for of in (grouped_cka, displacement):
        yield Case(
            of, "documents", lambda f=of: f(X, Y, GROUPS[:-1]), "24 tokens have 23 documents"
        )
        yield Case(of, "one document", lambda f=of: f(X, Y, ALONE)[1:3], None)


def of_blocks() -> Iterator[Case]:
    alone = jackknife_cka(X, Y, ALONE)
    for left_out in (LeftOut(NAN, np.ones(3)), LeftOut(0.5, np.array([0.5, NAN, 0.5]))):
        yield Case(cka_interval, "NaN", lambda v=left_out: cka_interval(v), "CKA is not finite")
    yield Case(late_part, "infinity", lambda: late_part(np.full((2, 9), math.inf)), None)
    yield Case(late_minus_mid, "infinity", lambda: late_minus_mid(np.full((2, 9), math.inf)), None)
    yield Case(cka_interval, "one block", lambda: cka_interval(alone)[1:], None)
    few = np.full((2, 3), 0.1)  # three layers have no late part
    yield Case(late_part, "three layers", lambda: late_part(few), None)
    yield Case(late_minus_mid, "three layers", lambda: late_minus_mid(few), None)
    one = np.ones((1, 2))
    yield Case(jackknife_interval, "one block", lambda: jackknife_interval(one[0], one), None)


def of_reconstructions() -> Iterator[Case]:
    calls = {
        cross_ratio: cross_ratio,
        ratio_intervals: lambda *v: ratio_intervals(*v, GROUPS),
        peak_ratio: lambda *v: peak_ratio([(X, Y, Y), v], GROUPS),
    }
    for of, call in calls.items():
        for place in range(3):
            views = [X, Y, Y]
            views[place] = spoiled(views[place])
            yield Case(of, f"NaN {place}", lambda c=call, v=tuple(views): c(*v), "not finite")
        yield Case(of, "one token", lambda c=call: c(X, ONE, Y), "do not pair up")
        yield Case(of, "width", lambda c=call: c(X, Y[:, :1], Y), "do not pair up")
        yield Case(of, "constant", lambda c=call: c(FLAT, Y, Y), "constant over")
    yield Case(ratio_intervals, "one document", lambda: ratio_intervals(X, Y, Y, ALONE), None)
    for of in (ratio_intervals, peak_ratio):
        views = (X, Y, Y) if of is ratio_intervals else ([(X, Y, Y)],)
        yield Case(of, "documents", lambda f=of, v=views: f(*v, GROUPS[:3]), "24 tokens have 3")
    yield Case(peak_ratio, "one document", lambda: peak_ratio([(X, Y, Y)], ALONE)[1:], None)
    yield Case(peak_of_sums, "one document", lambda: peak_of_sums(np.ones((1, 2, 3)))[1:], None)
    yield Case(
        peak_of_sums, "NaN", lambda: peak_of_sums(np.full((3, 2, 3), NAN)), "totals of document 0"
    )
    still = np.ones((3, 2, 3))
    still[:, 1] = 0.0
    yield Case(
        peak_of_sums, "a silent layer", lambda: peak_of_sums(still), "layer 1 of 2 has no var"
    )
    yield Case(peak_of_sums, "no document", lambda: peak_of_sums(np.ones((0, 2, 3))), "one or more")
    yield Case(peak_of_sums, "two axes", lambda: peak_of_sums(np.ones((2, 3))), "not .documents")
    call = lambda: peak_ratio([(X, Y, Y)] * 2, [GROUPS])  # noqa: E731
    yield Case(peak_ratio, "fewer groups", call, "2 layers have 1 lists")
    every = np.unique(GROUPS.numpy())
    for place in range(3):
        views = [X, Y, Y]
        views[place] = spoiled(views[place])
        call = lambda v=tuple(views): error_sums(*v, GROUPS, every)  # noqa: E731
        yield Case(error_sums, f"NaN {place}", call, "not finite")
    call = lambda: error_sums(X, Y, Y, GROUPS, every[1:])  # noqa: E731
    yield Case(error_sums, "a document more", call, "not among those announced")
    yield Case(peak_ratio, "no layers", lambda: peak_ratio([], GROUPS), "no layers")


def of_distributions() -> Iterator[Case]:
    a, b, targets = X @ W.T, Y @ W.T, ALONE
    yield Case(kl_per_token, "vocabularies", lambda: kl_per_token(a, b[:, 1:]), "of 50 and 49")
    yield Case(kl_per_token, "tokens", lambda: kl_per_token(a, b[:1]), "do not pair up")
    yield Case(kl_per_token, "NaN", lambda: kl_per_token(spoiled(a), b)[0], None)
    for name, arguments, says in (
        ("NaN", (spoiled(X), Y, W, W), "hidden_p is not finite at token 0"),
        ("infinity", (X, spoiled(Y, math.inf), W, W), "hidden_q is not finite at token 0"),
        ("NaN weights", (X, Y, spoiled(W), W), "logits are not finite"),
        ("vocabularies", (X, Y, W, W[1:]), "vocabularies of 50 and 49"),
        ("tokens", (X, Y[:1], W, W), "do not pair up"),
        ("width", (X, Y, W[:, 1:], W), "belong to different models"),
        ("targets", (X, Y, W, W, targets[:3]), "3 targets do not fit 24 tokens"),
        ("unknown targets", (X, Y, W, W, targets + V), "outside the vocabulary"),
    ):
        yield Case(streamed, name, lambda v=arguments: streamed(*v), says)
    yield Case(streamed, "no tokens", lambda: streamed(X[:0], Y[:0], W, W).means(), "no tokens")


def of_documents() -> Iterator[Case]:
    sums = np.ones((4, 1))
    yield Case(bootstrap, "NaN", lambda: bootstrap(lambda t: t[:, 0], sums * NAN), "document 0")
    yield Case(bootstrap, "none", lambda: bootstrap(lambda t: t[:, 0], sums[:0]), "no documents")
    yield Case(bootstrap, "one", lambda: bootstrap(lambda t: t[:, 0], sums[:1])[1:], None)
    for of in (bootstrap_ratio, bootstrap_mean):
        yield Case(of, "NaN", lambda f=of: f([1.0, NAN], [1, 2]), "document 1 are not finite")
        yield Case(of, "infinity", lambda f=of: f([1.0, math.inf], [1, 2]), "not finite")
        yield Case(of, "lengths", lambda f=of: f([1.0], [1, 2]), "one entry per document")
        yield Case(of, "no tokens", lambda f=of: f([0.0, 0.0], [0, 0]), "sum to zero")
        yield Case(of, "one document", lambda f=of: f([3.0], [2])[1:], None)
    yield Case(bootstrap_mean, "NaN tokens", lambda: bootstrap_mean([1.0], [NAN]), "0 or more")
    yield Case(resample_counts, "none", lambda: resample_counts(0), "documents to draw from")
    labels = np.array([1, 2])
    yield Case(sums_by_group, "lengths", lambda: sums_by_group(sums, labels), "4 tokens have 2")


def of_latents() -> Iterator[Case]:
    decoder, codes = normal(3, 2, D), normal(N, 3).abs()
    x, hat = normal(N, 2, D), normal(N, 2, D, seed=1)
    for name, views, says in (
        ("NaN x", (spoiled(x), hat, codes, decoder), "x is not finite"),
        ("NaN x_hat", (x, spoiled(hat), codes, decoder), "x_hat is not finite"),
        ("NaN codes", (x, hat, spoiled(codes), decoder), "codes is not finite"),
        ("NaN decoder", (x, hat, codes, spoiled(decoder)), "not finite"),
        ("tokens", (x, hat[:1], codes, decoder), "do not pair up"),
        ("codes", (x, hat, codes[:-1], decoder), "do not pair up"),
        ("never fires", (x, hat, 0 * codes, decoder), None),
    ):
        decoders = views[3]
        if name == "NaN decoder":
            decoders = decoder.clone()
            decoders[0, 1, 0] = NAN
        call = (*views[:3], decoders)
        yield Case(LatentScaling, name, lambda v=call: torch.cat(list(scaled(*v))), says)
    ok = torch.ones(3)
    yield Case(delta_norm, "NaN", lambda: delta_norm(ok, ok * NAN), "norm_tuned holds values")
    yield Case(delta_norm, "negative", lambda: delta_norm(-ok, ok), "norm_base holds values")
    yield Case(delta_norm, "no norms", lambda: delta_norm(0 * ok, 0 * ok), None)
    classes = {
        "infinite norm": (ok * math.inf, ok * 20, "lies outside 0..1"),
        "norm 1.5": (ok * 1.5, ok * 20, "lies outside 0..1"),
        "NaN firings": (ok / 2, spoiled(torch.ones(6))[3:] * 20, "firings is not finite"),
        "negative firings": (ok / 2, -ok, "a count below 0"),
    }
    for name, (norms, fired, says) in classes.items():
        call = lambda v=(norms, fired): classify_latents(*v)  # noqa: E731
        yield Case(classify_latents, name, call, says)
    at = torch.zeros(N, 1, dtype=torch.int64)
    update = LatentScaling(decoder[:, 1]).update_sparse
    views = (x, hat, at, codes[:, :1])
    yield Case(LatentScaling, "NaN decoder", lambda: update(*views, spoiled(decoder)), "decoder is")
    yield Case(LatentScaling, "2-D decoder", lambda: update(*views, decoder[:, 1]), "not 3 axes")
    yield Case(LatentScaling, "latents", lambda: update(*views, decoder[:2]), "are not .tokens, 2")
    counts = torch.tensor([20])
    yield Case(classify_latents, "lengths", lambda: classify_latents(ok, counts), "have 1 counts")
    yield Case(shares, "NaN", lambda: shares(ok * NAN, decoder), "sum_squares is not finite")
    yield Case(shares, "NaN decoder", lambda: shares(ok, spoiled(decoder)), "decoder is not finite")
    yield Case(shares, "lengths", lambda: shares(ok[:1], decoder), "do not pair up")
    alive = torch.ones(3, dtype=torch.bool)
    yield Case(match, "NaN", lambda: match(decoder, spoiled(decoder)), "NaN or infinity")
    yield Case(match, "other d", lambda: match(decoder, decoder[..., 1:]), "same layer")
    none = [decoder], [alive]
    broken = [spoiled(decoder)], [alive]
    yield Case(stability, "none", lambda: stability(decoder, [], alive, []), "at least one replica")
    yield Case(stability, "NaN", lambda: stability(decoder, broken[0], alive, none[1]), "NaN")
    short, absent = torch.zeros(2, dtype=torch.int64), torch.full((3,), 3)
    yield Case(
        change_cosine, "short", lambda: change_cosine(decoder, decoder, short), "2 entries for 3"
    )
    yield Case(
        change_cosine, "absent", lambda: change_cosine(decoder, decoder, absent), "not among"
    )
    yield Case(match, "mask", lambda: match(decoder, decoder, alive[:2]), "2 entries for 3")
    yield Case(match, "other mask", lambda: match(decoder, decoder, alive, alive[:2]), "2 entries")
    masks = alive[:2], none[1]
    yield Case(stability, "mask", lambda: stability(decoder, none[0], *masks), "2 entries for 3")
    masks = alive, [alive[:2]]
    yield Case(
        stability, "its mask", lambda: stability(decoder, none[0], *masks), "2 entries for 3"
    )
    yield Case(random_cosine, "negative", lambda: random_cosine(-1, 5), "at least 0")
    lost = torch.full((3,), -1)
    yield Case(change_cosine, "no partner", lambda: change_cosine(decoder, decoder, lost), None)
    yield Case(random_cosine, "d", lambda: random_cosine(5, 1), "d of at least 2")
    yield Case(random_cosine, "none", lambda: random_cosine(0, 5), None)
    yield Case(shuffled_cosine, "none", lambda: shuffled_cosine(decoder[:0], decoder), None)


def of_points() -> Iterator[Case]:
    strata = [*"aabb"]
    calls = {
        spearman_exact: spearman_exact,
        stratified_spearman: lambda x, y: stratified_spearman(x, y, ["a"] * len(list(x))),
        partial_spearman: lambda x, y: partial_spearman(x, y, ["a"] * len(list(x))),
        leave_one_out: leave_one_out,
        measurement_error: lambda x, y: measurement_error(x, y, 0.1),
    }
    for of, call in calls.items():
        yield Case(of, "2 points", lambda c=call: c([1, 2], [2, 1]), "there are 2 points")
        yield Case(of, "NaN", lambda c=call: c([1, 2, 3, NAN], [1, 2, 3, 4]), "finite")
        yield Case(of, "infinity", lambda c=call: c([1, 2, 3, 4], [1, 2, math.inf, 4]), "finite")
        yield Case(of, "lengths", lambda c=call: c([1, 2, 3, 4], [1, 2, 3]), "pair up")
        constant = None if of is leave_one_out else "constant|varies inside no"
        yield Case(of, "constant", lambda c=call: c([1, 2, 3, 4], [5, 5, 5, 5]), constant)
    order = [1, 2, 3, 4]
    small = "has 2 points"
    yield Case(stratified_spearman, "n", lambda: stratified_spearman(order, order, strata), small)
    yield Case(ranks, "NaN", lambda: ranks([1.0, NAN]), "NaN")
    yield Case(pair, "two points", lambda: pair([1, 2], [1, 2]), "there are 2 points")
    yield Case(pair, "NaN", lambda: pair([1, 2, NAN], [1, 2, 3]), "must be finite")
    constant = np.ones(4)
    nothing = Share(NAN, NAN, NAN)
    yield Case(excess, "NaN", lambda: excess(nothing, wilson(1, 10)), None)
    yield Case(unit_ranks, "constant", lambda: unit_ranks("x", constant), "x is constant")
    yield Case(
        rank_correlation, "constant", lambda: rank_correlation(constant, np.arange(4.0)), None
    )
    yield Case(attainable, "two points", lambda: attainable([4, 2]), "at least 3 points")
    yield Case(attainable, "no stratum", lambda: attainable([]), "at least 3 points")
    yield Case(holm, "NaN", lambda: holm([0.1, NAN]), "in .0, 1.")
    yield Case(classify, "NaN", lambda: classify(NAN, 1.0, 1.0, 1.0), "internal value is NaN")
    for value in (math.inf, -math.inf):
        yield Case(classify, f"{value}", lambda v=value: classify(v, 1, 1, 1), "value is infinite")
        yield Case(classify, f"outer {value}", lambda v=value: classify(1, v, 1, 1), "output value")
    yield Case(classify, "NaN cut", lambda: classify(1.0, 1.0, 1.0, NAN), "output cut must be")
    yield Case(distance, "NaN", lambda: distance("output", NAN, 1.0), "output value is NaN")
    yield Case(median_cuts, "NaN", lambda: median_cuts([1.0, NAN, 2.0], [1, 2, 3]), "holds NaN")
    yield Case(
        median_cuts, "infinity", lambda: median_cuts([1, 2, math.inf], [1, 2, 3]), "infinity"
    )
    yield Case(median_cuts, "one", lambda: median_cuts([1.0], [1.0]), "at least two experiments")
    yield Case(null_cuts, "none", lambda: null_cuts([]), "no null draw")
    yield Case(null_cuts, "NaN", lambda: null_cuts([1.0, NAN]), "must be finite")
    yield Case(wilson, "nothing", lambda: wilson(0, 0), "n >= 1")
    for value in (math.inf, NAN):
        yield Case(wilson, f"of {value}", lambda v=value: wilson(3, v), "n >= 1")
        call = lambda v=value: measurement_error([1, 2, 3], [1, 2, 3], v)  # noqa: E731
        yield Case(measurement_error, f"sd {value}", call, "finite sd_log")
    still, layers = np.zeros(4), np.array([0.1, NAN, 0.2, 0.3])
    yield Case(late_share, "nothing moved", lambda: late_share(still, 2), None)
    yield Case(late_share, "NaN", lambda: late_share(layers, 2), None)
    for at, value in ((0, math.inf), (3, math.inf), (0, -math.inf)):
        broken = np.array([0.1, 0.1, 0.2, 0.3])
        broken[at] = value
        yield Case(late_share, f"{value} at {at}", lambda v=broken: late_share(v, 2), None)
    yield Case(late_start, "no layer", lambda: late_start(0), "0 layers have no late part")
    yield Case(late_share, "no late part", lambda: late_share(still, 4), "need 1..L-1")
    yield Case(late_envelope, "NaN", lambda: late_envelope(layers, layers, 2), None)


def of_levels() -> Iterator[Case]:
    """A level of confidence, everywhere one is taken."""
    left_out = jackknife_cka(X, Y, GROUPS)
    sums = np.ones((4, 1))
    calls = {
        bootstrap: lambda level: bootstrap(lambda t: t[:, 0], sums, level=level),
        bootstrap_mean: lambda level: bootstrap_mean([1.0, 2.0], [1, 2], level=level),
        bootstrap_ratio: lambda level: bootstrap_ratio([1.0, 2.0], [1, 2], level=level),
        percentiles: lambda level: percentiles(np.arange(9.0), level),
        jackknife_interval: lambda level: jackknife_interval(np.ones(1), np.ones((3, 1)), level),
        grouped_cka: lambda level: grouped_cka(X, Y, GROUPS, level=level),
        cka_interval: lambda level: cka_interval(left_out, level),
        displacement: lambda level: displacement(X, Y, GROUPS, level=level),
        ratio_intervals: lambda level: ratio_intervals(X, Y, Y, GROUPS, level=level),
        peak_ratio: lambda level: peak_ratio([(X, Y, Y)], GROUPS, level=level),
        null_cuts: lambda level: null_cuts([1.0, 2.0], level=level),
        attainable: lambda level: attainable([4], level),
    }
    for of, call in calls.items():
        for level in (0.0, 1.0, -0.5, 1.5, 95, NAN):
            yield Case(of, f"level {level}", lambda c=call, v=level: c(v), "level must be between")
    one = [1.0, 2.0], [1, 2]
    yield Case(bootstrap_mean, "level, one", lambda: bootstrap_mean(*one, level=95), "level must")


def of_shapes() -> Iterator[Case]:
    """One axis too few and one too many."""
    a, b, wide = X @ W.T, Y @ W.T, X[None]
    views = {
        linear_cka: lambda v: linear_cka(v, v),
        debiased_cka: lambda v: debiased_cka(v, v),
        StreamingCKA: lambda v: measured(StreamingCKA, v, v),
        grouped_cka: lambda v: grouped_cka(v, v, GROUPS),
        displacement: lambda v: displacement(v, v, GROUPS),
        Displacement: lambda v: measured(Displacement, v, v),
        fve: lambda v: fve(v, v),
        cross_ratio: lambda v: cross_ratio(v, v, v),
        massive_tokens: lambda v: massive_tokens(v, v),
        span: span,
        principal_angles: lambda v: principal_angles(v, v),
        max_cosine: lambda v: max_cosine(v, v),
    }
    for of, call in views.items():
        for view in (X[:, 0], wide, torch.tensor(1.0)):
            yield Case(of, f"{view.ndim} axes", lambda c=call, v=view: c(v), "shape .*, not 2 axes")
    for view in (a[0], a[None]):
        yield Case(
            kl_per_token, f"{view.ndim} axes", lambda v=view: kl_per_token(v, b), "not 2 axes"
        )
        yield Case(streamed, f"{view.ndim} axes", lambda v=view: streamed(v, Y, W, W), "not 2 axes")
    yield Case(streamed, "weights", lambda: streamed(X, Y, W[0], W), "not 2 axes")
    line, cube = np.full(9, 0.1), np.full((2, 2, 9), 0.1)
    for of in (late_part, late_minus_mid):
        for profile in (line, cube):
            yield Case(of, f"{profile.ndim} axes", lambda f=of, v=profile: f(v), "not 2 axes")
    square = [[1, 2], [3, 4]]
    for of in (spearman_exact, leave_one_out, lambda x, y: measurement_error(x, y, 0.1)):
        yield Case(of, "two axes", lambda f=of: f(square, square), "not 1 axis")
    yield Case(ranks, "two axes", lambda: ranks(square), "not 1 axis")
    yield Case(holm, "two axes", lambda: holm([[0.1, 0.2]]), "not 1 axis")
    yield Case(median_cuts, "two axes", lambda: median_cuts(square, square), "not 1 axis")
    yield Case(null_cuts, "two axes", lambda: null_cuts(square), "not 1 axis")
    yield Case(bootstrap, "one axis", lambda: bootstrap(lambda t: t, np.ones(3)), "not 2 axes")
    yield Case(grouped_cka, "groups", lambda: grouped_cka(X, Y, GROUPS[:, None]), "not 1 axis")


def of_extremes() -> Iterator[Case]:
    """Where float64 ends and no other scale of the same views would have an answer."""
    far = X.double().clone()
    far[3] *= 1e200
    views = X.double() * 1e200, Y.double() * 1e200
    yield Case(fve, "1e200", lambda: fve(*views), "too large for their squares")
    yield Case(fve, "1e-200", lambda: fve(X.double() * 1e-200, Y.double() * 1e-200), "too small")
    yield Case(cross_ratio, "1e200", lambda: cross_ratio(*views, views[1]), "too large")
    yield Case(Displacement, "apart", lambda: measured(Displacement, X, far), "overflows float64")
    yield Case(displacement, "apart", lambda: displacement(X, far, GROUPS), "overflows float64")

    def grown() -> float:
        streaming = StreamingCKA(D, D)
        streaming.update(X, Y)
        streaming.update(X.double() * 1e200, Y.double() * 1e200)
        return streaming.value()

    yield Case(StreamingCKA, "a batch of 1e200", grown, "overflows float64")


def of_directions() -> Iterator[Case]:
    for k in (0, -1):
        yield Case(span, f"k {k}", lambda k=k: span(W, k), "must be at least 1")
        yield Case(principal_angles, f"k {k}", lambda k=k: principal_angles(W, W, k), "at least 1")
    yield Case(span, "k above", lambda: span(W, 7), "7 are needed")
    none = torch.zeros(3, 0)
    yield Case(max_cosine, "width 0", lambda: max_cosine(none, none), "width 0 have no angle")
    yield Case(max_cosine, "NaN", lambda: max_cosine(spoiled(X), Y), "not finite")
    chance = Chance(0.1, 0.2, 8)
    yield Case(Chance.distance, "n 0", lambda: chance.distance(0.3, 0), "a mean of 0 scores")
    yield Case(Chance.distance, "no draws", lambda: Chance(0, 1, 0).distance(0.3), "from 0 draws")


def of_labels() -> Iterator[Case]:
    sure = Sampled(2.0, 1.0, np.full(5, 2.0), np.ones(5))
    for name, values, cuts, says in (
        ("NaN draws", np.array([2.0, NAN, 2, 2, 2]), np.ones(5), "NaN among its draws"),
        ("NaN cuts", np.full(5, 2.0), np.array([1, 1, 1, 1, NAN]), "NaN among its draws"),
        ("fewer draws", np.full(4, 2.0), np.ones(4), "4 entries for 5"),
        ("fewer cuts", np.full(5, 2.0), np.ones(4), "cuts has 4 entries for 5"),
    ):
        other = Sampled(2.0, 1.0, values, cuts)
        yield Case(judge, name, lambda v=other: judge(sure, v), says)
    none = Sampled(2.0, 1.0, np.ones(0), np.ones(0))
    yield Case(judge, "no draws", lambda: judge(none, none), "has no draws")
    yield Case(judge, "margin", lambda: judge(sure, sure, NAN), "margin nan must be")
    yield Case(judge, "support", lambda: judge(sure, sure, 0.1, NAN), "support nan within")
    one = np.ones(1)
    for values in ((one, one, one * math.inf), (one, -one * math.inf, one), (one * math.inf,) * 3):
        yield Case(sample_axis, "infinity", lambda v=values: sample_axis(*v), "is infinite")
    yield Case(sample_axis, "lengths", lambda: sample_axis(one, one, np.ones(2)), "2 entries for 1")


def of_paths() -> Iterator[Case]:
    good, one, none = [0.1, 0.2, 0.4], [0.2], [None] * 3
    for wrong in (NAN, math.inf):
        bad = [0.1, wrong, 0.4]
        yield Case(slope, f"{wrong}", lambda b=bad: slope(good, b, none, none), "y holds")
        yield Case(slope, f"{wrong} s", lambda b=bad: slope(b, good, none, none), "s holds")
        yield Case(
            departure, f"{wrong}", lambda b=bad: departure(good, b, none, none, 2), "y holds"
        )
        yield Case(crossing, f"{wrong}", lambda b=bad: crossing(good, b, 0.2), "y holds")
        yield Case(
            crossing, f"{wrong} target", lambda w=wrong: crossing(good, good, w), "target holds"
        )
        yield Case(course, f"{wrong}", lambda b=bad: course(b, [(True, True)] * 3), "values holds")
    yield Case(slope, "lengths", lambda: slope(good, one, none, none), "1 entries for 3")
    yield Case(departure, "lengths", lambda: departure(good, one, none, none, 2), "1 entries for 3")
    yield Case(crossing, "lengths", lambda: crossing(good, one, 1), "1 entries for 3")
    yield Case(crossing, "never", lambda: crossing(good, good, 9), None)
    yield Case(course, "lengths", lambda: course(good, [(True, True)]), "3 values have 1 pairs")
    yield Case(slope, "one point", lambda: slope(one, one, [None], [None])[:3], None)
    yield Case(slope, "one s", lambda: slope([0.2] * 3, good, none, none)[:3], None)
    yield Case(departure, "none above 0", lambda: departure([0], [0], [0], [0], 2)[:2], None)


GROUPS_OF_CASES = (
    *(of_levels, of_shapes, of_extremes, of_directions, of_labels),
    *(of_two_views, of_blocks, of_reconstructions, of_distributions),
    *(of_documents, of_latents, of_points, of_paths),
)
CASES = [case for group in GROUPS_OF_CASES for case in group()]
ELSEWHERE = {
    "angles": "directions, not tokens (test_angles)",
    "artefacts": "polars expressions: null in, null out (test_artefacts)",
    "support": "draws of numbers that were checked before (test_support)",
    "hsic": "the algebra of CKA",
    "logits": "the arithmetic of streamed",
    "permutation": "the arithmetic of statistics",
    "inputs": "the checks themselves",
    "shapes": "the checks themselves",
}
NO_NUMBER = {
    *("resample_counts", "percentiles", "sparse_codes", "rows_at_once", "nearest"),
    *("metric_dependent", "with_timing", "document_blocks", "ratio_of_sums"),
    *("members", "unit"),
}
"""Draws, layout and words: nothing is measured by these."""


@pytest.fixture
def _without_shape_checks() -> Iterator[None]:
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def says_nothing(answer: Any) -> bool:
    """Only None and NaN."""
    if isinstance(answer, torch.Tensor | np.ndarray):
        return bool(np.isnan(np.asarray(answer)).all())
    if isinstance(answer, tuple):
        return all(says_nothing(part) for part in answer)
    return answer is None or math.isnan(answer)


@pytest.mark.usefixtures("_without_shape_checks")
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.of.__qualname__}-{c.what}")
def test_no_number_comes_out(case):
    if case.says is None:
        assert says_nothing(case.call())
        return
    with pytest.raises(ValueError, match=case.says):
        case.call()


@pytest.mark.parametrize("power", [-1000, -141, -137, 350, 500, 1000])
def test_what_does_not_depend_on_the_scale_is_the_same_at_any_scale(power):
    """To the last bit, for powers of two: float32 * 1e-41 and float64 * 1e200 are activations too."""
    x, y = X.double(), Y.double()
    far = [torch.ldexp(v, torch.tensor(power)) for v in (x, y)]
    for measure in (linear_cka, debiased_cka):
        assert measure(*far) == measure(x, y) == measure(far[0], y)
    assert measured(StreamingCKA, *far) == measured(StreamingCKA, x, y)
    assert grouped_cka(*far, GROUPS) == grouped_cka(x, y, GROUPS)
    assert displacement(*far, GROUPS) == displacement(x, y, GROUPS)
    assert measured(Displacement, *far) == measured(Displacement, x, y)
    assert torch.equal(massive_tokens(*far).keep, massive_tokens(x, y).keep)
    assert massive_tokens(*far)[1:] == massive_tokens(x, y)[1:]
    assert torch.equal(max_cosine(*far).signed, max_cosine(x, y).signed)
    few = far[0][:2], far[1][:2]
    assert torch.allclose(principal_angles(*few), principal_angles(x[:2], y[:2]))


def public() -> dict[str, Any]:
    """Every public function of the metrics, and every class that measures by updates."""
    found = {}
    for module in pkgutil.iter_modules(lib.metrics.__path__):
        if module.name in ELSEWHERE:
            continue
        loaded = importlib.import_module(f"lib.metrics.{module.name}")
        for name, value in vars(loaded).items():
            own = getattr(value, "__module__", None) == loaded.__name__
            streams = inspect.isclass(value) and hasattr(value, "update")
            if own and not name.startswith("_") and (inspect.isfunction(value) or streams):
                found[f"{module.name}.{name}"] = value
    return found


def test_every_public_metric_was_given_wrong_things():
    given = {case.of for case in CASES}
    missing = [name for name, value in public().items() if value not in given]
    assert [name for name in missing if name.split(".")[1] not in NO_NUMBER] == []
    assert len(given) > 30
