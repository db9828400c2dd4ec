"""Engine against the plain recipe: same data, same tokens, same model, same calibration.

Data: planted sparse features with power-law frequencies at d 576, of which some differ between the
sides, plus dense noise. Thresholds are set on one held-out set and every figure is of another.
"""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lib.config import Sparse
from lib.sparse import Dictionary, train
from lib.sparse.quality import quality
from tests.benchmarks.reference import train_dense
from tests.benchmarks.report import Options, Section, table

ACTIVE = 24
PLAIN = {
    "basis": "sides",
    "difference_weight": 1.0,
    "ranking": "norms",
    "unit_decoder": False,
    "tied": 0.0,
    "untied_k": 0,
    "anneal_from": 0,
    "lr": 1e-3,
}
"""The public recipe: both train on it, and the engine on its own defaults besides."""


class BatchTopK(Dictionary):
    """The same weights, keeping exactly the k * tokens strongest codes of a batch, as in training."""

    def __init__(self, made: Dictionary) -> None:
        super().__init__(made.sides, made.d, made.latents, made.k)
        self.__dict__.update(made.__dict__)
        self.limits, self.thresholds = made.thresholds, torch.zeros(made.latents)

    def encode(self, x: Float[Tensor, "tokens sides d"]) -> Float[Tensor, "tokens latents"]:
        a = super().encode(x)
        score = (a / self.limits.clamp_min(1e-12)).flatten()
        kept = torch.topk(score, self.k * len(x), sorted=False).indices
        return torch.zeros_like(a).flatten().index_copy(0, kept, a.flatten()[kept]).view_as(a)


def activations(tokens: int, seed: int, d: int, features: int) -> Float[Tensor, "tokens sides d"]:
    """Paired activations in bfloat16; ``seed`` picks the tokens, the features stay."""
    fixed = torch.Generator().manual_seed(0)
    base = torch.nn.functional.normalize(torch.randn(features, d, generator=fixed), dim=1)
    turn = torch.nn.functional.normalize(torch.randn(features, d, generator=fixed), dim=1)
    changed = (torch.rand(features, 1, generator=fixed) < 0.1).float()
    tuned = torch.nn.functional.normalize(base + 0.6 * changed * turn, dim=1)
    popularity = 1.0 / torch.arange(1, features + 1).float().sqrt()
    generator = torch.Generator().manual_seed(seed)
    made = []
    for start in range(0, tokens, 2048):
        count = min(2048, tokens - start)
        which = torch.multinomial(popularity.expand(count, -1), ACTIVE, generator=generator)
        size = 0.5 + torch.rand(count, ACTIVE, generator=generator)
        sides = [
            torch.nn.functional.embedding_bag(which, side, mode="sum", per_sample_weights=size)
            for side in (base, tuned)
        ]
        noise = 0.05 * torch.randn(count, 2, d, generator=generator)
        made.append((torch.stack(sides, dim=1) + noise).bfloat16())
    return torch.cat(made)


def peak(rows: int, wide: int, columns: int, device: torch.device) -> float:
    """FLOP/s of the scores' own product in bfloat16 on this machine, best of ten."""
    a, b = (torch.randn(n, wide, device=device).bfloat16() for n in (rows, columns))
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        a @ b.T
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * rows * wide * columns / best


def described(name: str, speed: float, share: float, made: Dictionary, test: Tensor) -> list[str]:
    made = made.to("cpu")
    seen, exact = quality(made, test), quality(BatchTopK(made), test)
    silent = float((seen.firing == 0).float().mean())
    fve = [f"{v:.3f}" for v in (*seen.fve, seen.fve_difference, *exact.fve, exact.fve_difference)]
    return [name, f"{speed:,.0f}", f"{share:.0%}", *fve, f"{seen.l0:.1f}", f"{silent:.1%}"]


def timed(work: Callable[[], Dictionary], tokens: int) -> tuple[float, Dictionary]:
    """Tokens per second of the whole call, calibration included."""
    began = time.perf_counter()
    made = work()
    return tokens / (time.perf_counter() - began), made


def measure(options: Options) -> Section:
    d, latents, batch, count, steps = (
        (32, 128, 256, 4, 20) if options.quick else (576, 4_096, 2_048, 80, 300)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = list(activations(count * batch, 1, d, latents * 3 // 4).to(device).split(batch))
    heldout, test = (activations(2 * batch, seed, d, latents * 3 // 4) for seed in (2, 3))
    k = 8 if options.quick else 32
    default = Sparse(k=k, batch=batch, max_steps=steps, evaluate_every=10**6)
    plain = Sparse(k=k, batch=batch, max_steps=steps, evaluate_every=10**6, **PLAIN)
    tokens = steps * batch
    work = {
        "engine": lambda: _engine(batches, plain, latents, heldout, tokens),
        "reference": lambda: train_dense(batches, plain, latents=latents, heldout=heldout),
        "engine, its own defaults": lambda: _engine(batches, default, latents, heldout, tokens),
    }
    speeds, rows = {}, []
    most = peak(batch, 2 * d, latents, device) / (2 * 2 * d * latents)
    for name, job in work.items():
        speeds[name], made = timed(job, tokens)
        rows.append(described(name, speeds[name], speeds[name] / most, made, test))
    ratio = speeds["engine"] / speeds["reference"]
    claim = (
        f"**{ratio:.1f} times** the tokens per second of the plain dense recipe (asked: 4 times) on "
        f"{options.threads} threads: d {d}, 2 sides, {latents:,} latents, k {k}, {steps} steps of "
        f"{batch:,} tokens, the same for both, AuxK included. Both thresholds were set on one "
        f"held-out set of {len(heldout):,} tokens; FVE, L0 and the share of latents that never fire "
        f"are of another; exact = the k x batch strongest codes of each batch, so at equal L0. "
        "Of the limit = share of the speed at which one bfloat16 product per token and latent, the "
        "scores, runs on this device by itself."
    )
    head = [
        "recipe",
        "tokens/s",
        "of the limit",
        "FVE base",
        "tuned",
        "difference",
        "exact: base",
        "tuned",
    ]
    head += ["difference", "L0", "never firing"]
    return Section("Engine against the plain recipe", claim, [table(head, rows)])


def _engine(
    batches: list[Tensor], config: Sparse, latents: int, heldout: Tensor, tokens: int
) -> Dictionary:
    made, log = train(batches, config, latents=latents, heldout=heldout)
    assert log.tokens == tokens, f"the engine saw {log.tokens} tokens, the reference {tokens}"
    return made
