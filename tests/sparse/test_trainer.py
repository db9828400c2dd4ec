"""One step's state: fixed shapes, blocks of latents, annealing, calibration."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.config import Sparse
from lib.sparse import train
from lib.sparse.basis import Basis, Normaliser
from lib.sparse.quality import quality
from lib.sparse.step import scores, select, select_fixed
from lib.sparse.trainer import Trainer

D, LATENTS, CPU = 12, 40, torch.device("cpu")
CONFIG = Sparse(k=4, anneal_from=8, batch=128, max_steps=200, evaluate_every=50, lr=3e-3)


def _activations(tokens: int = 128, seed: int = 0) -> torch.Tensor:
    """Sparse features, a tenth of them with another direction on the tuned side."""
    fixed = torch.Generator().manual_seed(7)
    base = torch.nn.functional.normalize(torch.randn(30, D, generator=fixed), dim=1)
    tuned = base.clone()
    tuned[:3] = torch.nn.functional.normalize(torch.randn(3, D, generator=fixed), dim=1)
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(tokens, 30, generator=generator)
    a = a * (torch.rand(tokens, 30, generator=generator) < 0.1)
    return torch.stack([a @ base, a @ tuned], dim=1)


def _trainer(config: Sparse = CONFIG, fixed: bool = False) -> tuple[Trainer, torch.Tensor]:
    x = _activations()
    basis = Basis(Normaliser.estimate([x]), 2, config.difference_weight, config.ranking)
    return Trainer(basis, D, LATENTS, config, CPU, fixed=fixed), basis.forward(x)


class HostSync(TorchDispatchMode):
    """Collects operations that would make a GPU wait for the host, or whose shape depends on data."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "is_same")

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = [a for a in args if isinstance(a, (list, tuple))]
        if name in self.FORBIDDEN or any(
            isinstance(t, torch.Tensor) and t.dtype == torch.bool
            for m in masks
            for t in m
            if name.startswith("index")
        ):
            self.met.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, tied=0.5, untied_k=2)])
def test_a_step_with_fixed_shapes_never_asks_the_host(config: Sparse):
    trainer, x = _trainer(config, fixed=True)
    trainer.silent += 1e9  # every latent counts as dead: AuxK runs
    trainer.step(x, 1e-3)
    with HostSync() as seen:
        trainer.step(x, 1e-3)
    assert seen.met == []
    with HostSync() as seen:  # the detector works: the CPU form does ask
        other, x = _trainer(config)
        other.step(x, 1e-3)
    assert "nonzero" in seen.met


def test_fixed_shapes_give_the_same_training():
    one, x = _trainer()
    two, _ = _trainer(fixed=True)
    one.low = two.low = torch.float32  # in bf16 scores tie, and ties may fall either way
    for step in range(12):
        one.step(x, 1e-3)
        two.step(x, 1e-3)
        if step == 4:  # some latents die
            for trainer in (one, two):
                trainer.silent[:9] += 1e9
    assert float(one.loss) == pytest.approx(float(two.loss), rel=1e-3)
    torch.testing.assert_close(one.weights.decoder, two.weights.decoder, atol=2e-3, rtol=0)


def test_fixed_selection_keeps_the_same_codes_and_pads_with_zero():
    trainer, x = _trainer()
    pre = scores(x, trainer.weights, torch.float32)
    norms = torch.ones(LATENTS)
    plain, fixed = select(pre, norms, 4, 0.0), select_fixed(pre, norms, 4)
    assert torch.equal(plain.token, fixed.token)
    assert torch.equal(plain.latent, fixed.latent)
    few = select_fixed(torch.tensor([[1.0, -1.0], [-2.0, -3.0]]), torch.ones(2), 1)
    assert few.value.tolist() == [1.0, 0.0]
    assert float(few.threshold) == 0.0


def test_tied_latents_keep_equal_decoders_and_the_others_take_the_change():
    batches = list(_activations(4096, 1).split(128))
    made, _ = train(batches, replace(CONFIG, tied=0.5, untied_k=2), latents=LATENTS)
    base, tuned = made.decoder[:20].unbind(1)
    torch.testing.assert_close(base, tuned, atol=1e-6, rtol=0)
    base, tuned = made.decoder[20:].unbind(1)
    assert ((base - tuned).norm(dim=1) / (base + tuned).norm(dim=1)).max() > 0.3


def test_each_block_fires_at_its_own_budget():
    heldout = _activations(2048, 3)
    config = replace(CONFIG, tied=0.5, untied_k=1)
    made, _ = train(
        list(_activations(4096, 1).split(128)), config, latents=LATENTS, heldout=heldout
    )
    fired = quality(made, heldout).firing
    assert float(fired[:20].sum()) == pytest.approx(3, rel=0.05)
    assert float(fired[20:].sum()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("steps", [5, 60])
@pytest.mark.parametrize("ranking", ["norms", "loss"])
def test_held_out_l0_is_k_even_after_short_training(steps: int, ranking: str):
    heldout = _activations(2048, 3)
    config = replace(CONFIG, max_steps=steps, ranking=ranking)
    made, _ = train(list(_activations(2048, 1).split(128)), config, latents=64, heldout=heldout)
    assert quality(made, heldout).l0 == pytest.approx(CONFIG.k, rel=0.05)


def test_unit_decoder_rows_leave_the_function_alone():
    free, x = _trainer()
    unit, _ = _trainer(replace(CONFIG, unit_decoder=True))
    free.step(x, 1e-2)
    unit.step(x, 1e-2)
    norms = unit.weights.decoder.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(LATENTS))
    assert (free.weights.decoder.norm(dim=1) - 1).abs().max() > 1e-3
    one, two = (t.folded(torch.zeros(1)) for t in (free, unit))
    y = _activations(50, 5)
    torch.testing.assert_close(one.decode(one.encode(y)), two.decode(two.encode(y)))


def test_annealing_starts_wide_and_ends_at_k():
    trainer, x = _trainer(replace(CONFIG, anneal_from=20))
    wide = trainer._extra_k()
    for _ in range(21):
        trainer.step(x, 1e-3)
    assert (wide, trainer._extra_k()) == (16, 0)


def test_without_annealing_k_stays_k():
    trainer, x = _trainer(replace(CONFIG, anneal_from=0))
    for _ in range(60):  # three times the span of annealing
        trainer.step(x, 1e-3)
        assert trainer._extra_k() == 0


def test_ranking_by_loss_uses_the_weighted_decoder_norm():
    basis = Basis(Normaliser(torch.zeros(1), 1.0), 2, 2.0, "loss")
    # training space (sum, 2 x difference) / sqrt 2: a row (3, 4) has norm 5
    assert basis.ranking_norms(torch.tensor([[3.0, 4.0]])).tolist() == [5.0]
    by_norms = Basis(Normaliser(torch.zeros(1), 1.0), 2, 2.0)
    # raw sides: base = (3 - 2)/sqrt 2, tuned = (3 + 2)/sqrt 2
    assert by_norms.ranking_norms(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(6 / 2**0.5)


def test_divergence_is_found_when_the_state_is_read():
    trainer, x = _trainer(fixed=True)
    trainer.step(x * float("nan"), 1e-3)
    with pytest.raises(ValueError, match="diverged at step 2"):
        trainer.check()


@pytest.mark.parametrize("tied", [0.02, 0.99])
def test_blocks_too_small_for_their_budgets_are_refused(tied: float):
    with pytest.raises(ValueError, match="too few for"):
        _trainer(replace(CONFIG, tied=tied, untied_k=2))


def test_annealing_is_shared_between_blocks():
    trainer, x = _trainer(replace(CONFIG, tied=0.5, untied_k=1, anneal_from=12))
    norms = trainer.basis.ranking_norms(trainer.weights.decoder)
    active = trainer._select(scores(x, trainer.weights, torch.float32), norms)
    assert len(active.token) <= 12 * len(x)
