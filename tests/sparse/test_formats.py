"""Other programs' dictionaries: files written by hand in their layout, their forward pass redone here.

The foreign arithmetic below is independent of the readers and writers under test: it works on the
tensors under their foreign names and never calls a ``Dictionary``.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.__main__ import main
from lib.config import Sparse
from lib.metrics.latents import delta_norm
from lib.sparse import Dictionary, formats, train

SIDES, D, LATENTS, TOKENS = 2, 12, 20, 64
IDS = {"CROSSCODER": 1, "SAE": 2, "MIXED": 3, "NONE": 4, "DECOUPLED": 5}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _folder(folder: Path, weights: str, held: dict, config: str, facts: dict) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({name: t.contiguous() for name, t in held.items()}, folder / weights)
    (folder / config).write_text(json.dumps(facts))
    return folder


# --- crosscoders of dictionary_learning -----------------------------------------------------------


def _crosscoder(sides: int = SIDES) -> dict[str, Tensor]:
    decoder = _random(sides, LATENTS, D, seed=1) * torch.linspace(0.3, 2, LATENTS)[:, None]
    return {
        "encoder.weight": _random(sides, D, LATENTS),
        "encoder.bias": _random(LATENTS, seed=2),
        "decoder.weight": decoder,
        "decoder.bias": _random(sides, D, seed=3),
    }


def _normaliser(target_rms: float = 100.0) -> dict[str, Tensor]:
    """The second side has twice the deviation, so half the scale; raw means are large."""
    std = torch.stack([torch.linspace(0.5, 2, D), torch.linspace(1, 4, D)])
    return {
        "activation_mean": 5 * _random(SIDES, D, seed=4),
        "activation_std": std,
        "activation_global_scale": target_rms / (std.square().sum(-1) + 1e-8).sqrt(),
        "target_rms": torch.tensor(target_rms),
    }


def _batch_topk(theta: float, ranking: str = "CROSSCODER") -> dict[str, Tensor]:
    return {
        "threshold": torch.tensor(theta),
        "k": torch.tensor(3, dtype=torch.int),
        "code_normalization_id": torch.tensor(IDS[ranking]),
    }


def _config(kind: str = "BatchTopKCrossCoder", **more: object) -> dict[str, object]:
    sizes = {"activation_dim": D, "dict_size": LATENTS, "num_layers": SIDES}
    return {"dict_class": kind, **sizes, **more}


def _their_forward(
    held: dict[str, Tensor], x: Tensor, ranking: str = "CROSSCODER"
) -> tuple[Tensor, Tensor]:
    """Codes and reconstruction as their class computes them, from its tensors."""
    mean, scale = held.get("activation_mean"), held.get("activation_global_scale")
    normalised = mean is not None and not bool(mean.isnan().any())
    u = (x - mean) * scale[None, :, None] if normalised else x
    a = torch.relu(torch.einsum("bld,ldf->bf", u, held["encoder.weight"]) + held["encoder.bias"])
    if "threshold" in held:
        per_layer, whole = (
            held["decoder.weight"].norm(dim=2),
            held["decoder.weight"].norm(dim=(0, 2)),
        )
        by = {
            "CROSSCODER": per_layer.sum(0),
            "SAE": whole,
            "MIXED": 1.0 * whole + 0.1 * per_layer.sum(0),
            "NONE": torch.ones(LATENTS),
        }[ranking]
        a = a * (a * by > held["threshold"])
    out = torch.einsum("bf,lfd->bld", a, held["decoder.weight"]) + held["decoder.bias"]
    return a, out / (scale[None, :, None] + 1e-8) + mean if normalised else out


def _write_theirs(folder: Path, held: dict, config: dict) -> Path:
    return _folder(folder, "model.safetensors", held, "config.json", config)


def _same(made: Dictionary, x: Tensor, codes: Tensor, reconstruction: Tensor) -> None:
    ours = made.encode(x)
    assert 0 < int((ours > 0).sum()) < ours.numel(), (
        "the case must have both active and silent codes"
    )
    torch.testing.assert_close(ours, codes, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(made.decode(ours), reconstruction, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("ranking", ["CROSSCODER", "SAE", "MIXED", "NONE"])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_batch_topk_crosscoder_computes_the_same_here(tmp_path, ranking, normalised):
    theta = 300.0 if normalised else 6.0
    held = _crosscoder() | (_normaliser() if normalised else {}) | _batch_topk(theta, ranking)
    source = _write_theirs(tmp_path / "a", held, _config(code_normalization=ranking))
    made = formats.read(source)
    x = 5 * _random(TOKENS, SIDES, D, seed=9)
    _same(made, x, *_their_forward(held, x, ranking))
    assert (made.sides, made.d, made.latents, made.k) == (SIDES, D, LATENTS, 3)


def test_a_relu_crosscoder_saved_before_there_were_normalisers(tmp_path):
    held = _crosscoder()
    compiled = {f"_orig_mod.{name}": t for name, t in held.items()}
    config = _config("CrossCoder")
    del config["dict_class"]  # older files do not name it
    made = formats.read(_write_theirs(tmp_path / "a", compiled, config))
    x = _random(TOKENS, SIDES, D, seed=9)
    _same(made, x, *_their_forward(held, x))
    assert made.k == LATENTS, "nothing says how many are active: only the bound is known"


def test_a_crosscoder_that_reads_one_of_its_layers(tmp_path):
    held = _crosscoder()
    one = held | {"encoder.weight": held["encoder.weight"][1:]}
    made = formats.read(
        _write_theirs(tmp_path / "a", one, _config("CrossCoder", encoder_layers=[1]))
    )
    held["encoder.weight"] = held["encoder.weight"] * torch.tensor([0.0, 1.0])[:, None, None]
    x = _random(TOKENS, SIDES, D, seed=9)
    _same(made, x, *_their_forward(held, x))


def test_their_delta_norm_is_the_mirror_image_of_ours(tmp_path):
    held = _crosscoder() | _batch_topk(1.0)
    held["decoder.weight"][0, 0] = 0  # latent 0 writes to the tuned side alone
    norms = held["decoder.weight"].norm(dim=-1)
    theirs = ((norms[0] - norms[1]) / norms.max(dim=0).values + 1) / 2
    made = formats.read(_write_theirs(tmp_path / "a", held, _config()))
    ours = delta_norm(*made.norms.unbind(1))
    torch.testing.assert_close(ours, 1 - theirs)
    assert float(ours[0]) == 1 and float(theirs[0]) == 0


def test_norms_are_raw_here_and_normalised_there(tmp_path):
    """A side with twice the deviation has twice the decoder norm in raw units."""
    held = _crosscoder() | _normaliser() | _batch_topk(1.0)
    made = formats.read(_write_theirs(tmp_path / "a", held, _config()))
    theirs = held["decoder.weight"].norm(dim=-1)
    raw, scale = made.norms, held["activation_global_scale"]
    torch.testing.assert_close(raw[:, 1] / raw[:, 0], 2 * theirs[1] / theirs[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(raw * scale, theirs.T, rtol=1e-4, atol=0)


def _ours(thresholds: Tensor, sides: int = SIDES) -> Dictionary:
    held = _crosscoder(sides)
    made = Dictionary(sides, D, LATENTS, 3)
    made.encoder = held["encoder.weight"]
    made.encoder_bias = held["encoder.bias"]
    made.decoder = held["decoder.weight"].transpose(0, 1).contiguous()
    made.decoder_bias = held["decoder.bias"]
    made.thresholds = thresholds
    return made


def test_batch_topk_thresholds_are_exported_as_one_threshold(tmp_path):
    made = _ours(torch.ones(LATENTS))
    made.thresholds = 6.0 / made.norms.sum(1)
    note = formats.write(made, tmp_path / "out", "dictionary-learning")
    held = load_file(tmp_path / "out" / "model.safetensors")
    x = _random(TOKENS, SIDES, D, seed=9)
    _same(made, x, *_their_forward(held, x))
    assert float(held["threshold"]) == pytest.approx(6)
    assert int(held["k"]) == 3
    assert "same codes" in note


def test_thresholds_of_any_kind_are_exported_by_changing_the_unit_of_each_code(tmp_path):
    made = _ours(torch.linspace(0.5, 4, LATENTS))
    made.decoder[3] = 0.0
    made.thresholds[3] = 0.0  # writes nothing, so its missing threshold is no obstacle
    note = formats.write(made, tmp_path / "out", "dictionary-learning")
    held = load_file(tmp_path / "out" / "model.safetensors")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    x = _random(TOKENS, SIDES, D, seed=9)
    codes, reconstruction = _their_forward(held, x, config["code_normalization"])
    ours = made.encode(x)
    torch.testing.assert_close(reconstruction, made.decode(ours), atol=1e-4, rtol=1e-4)
    live = torch.arange(LATENTS) != 3
    assert torch.equal((codes > 0)[:, live], (ours > 0)[:, live])
    factors = held["threshold"] / made.thresholds[live]
    torch.testing.assert_close(codes[:, live], ours[:, live] * factors, atol=1e-4, rtol=1e-4)
    assert "units of their threshold" in note
    again = formats.read(tmp_path / "out")
    torch.testing.assert_close(again.decode(again.encode(x)), reconstruction, atol=1e-4, rtol=1e-4)


def test_a_dictionary_without_thresholds_becomes_a_plain_crosscoder(tmp_path):
    made = _ours(torch.zeros(LATENTS))
    formats.write(made, tmp_path / "out", "dictionary-learning")
    held = load_file(tmp_path / "out" / "model.safetensors")
    x = _random(TOKENS, SIDES, D, seed=9)
    _same(made, x, *_their_forward(held, x))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dict_class"] == "CrossCoder"


class _Coder(torch.nn.Module):
    def __init__(self, weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(weight))
        self.bias = torch.nn.Parameter(torch.zeros(bias))


class _TheirModule(torch.nn.Module, PyTorchModelHubMixin):
    """Parameters, buffers and constructor of their class; a key too few or too many fails."""

    def __init__(
        self,
        activation_dim: int,
        dict_size: int,
        num_layers: int,
        k: int = 100,
        code_normalization: str = "CROSSCODER",
        dict_class: str | None = None,
    ) -> None:
        super().__init__()
        self.ranking = code_normalization
        self.encoder = _Coder((num_layers, activation_dim, dict_size), (dict_size,))
        self.decoder = _Coder((num_layers, dict_size, activation_dim), (num_layers, activation_dim))
        for name, shape in {
            "target_rms": (),
            "activation_mean": (num_layers, activation_dim),
            "activation_std": (num_layers, activation_dim),
            "activation_global_scale": (num_layers,),
            "code_normalization_id": (),
            "threshold": (),
            "k": (),
        }.items():
            self.register_buffer(name, torch.zeros(shape))


@pytest.mark.parametrize("thresholds", [[1.0], [0.5, 2.0]])
def test_the_hub_mixin_loads_an_export_with_every_key_in_place(tmp_path, thresholds):
    made = _ours(torch.tensor(thresholds).repeat(LATENTS // len(thresholds)))
    formats.write(made, tmp_path / "out", "dictionary-learning")
    module = _TheirModule.from_pretrained(str(tmp_path / "out"), strict=True)
    x = _random(TOKENS, SIDES, D, seed=9)
    _, reconstruction = _their_forward(module.state_dict(), x, module.ranking)
    torch.testing.assert_close(reconstruction, made.decode(made.encode(x)), atol=1e-4, rtol=1e-4)


def test_one_threshold_cannot_say_free_and_thresholded_latents_at_once(tmp_path):
    mixed = _ours(torch.cat([torch.zeros(5), torch.ones(LATENTS - 5)]))
    with pytest.raises(ValueError, match="5 latents fire above 0 and 15"):
        formats.write(mixed, tmp_path / "out", "dictionary-learning")
    per_token = _ours(torch.zeros(LATENTS))
    per_token.selection = "topk"
    with pytest.raises(ValueError, match="k per token"):
        formats.write(per_token, tmp_path / "out", "dictionary-learning")
    assert not (tmp_path / "out").exists()


# --- SAEs: SAELens and Gemma Scope ----------------------------------------------------------------


def _sae() -> dict[str, Tensor]:
    return {
        "W_enc": _random(D, LATENTS),
        "b_enc": _random(LATENTS, seed=2),
        "W_dec": _random(LATENTS, D, seed=1) * torch.linspace(0.3, 2, LATENTS)[:, None],
        "b_dec": 3 * _random(D, seed=3),
        "threshold": torch.linspace(0.2, 4, LATENTS),
    }


def _sae_config(architecture: str, **more: object) -> dict[str, object]:
    return {
        "architecture": architecture,
        "d_in": D,
        "d_sae": LATENTS,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "tiny"},
        **more,
    }


def _sae_forward(
    held: dict[str, Tensor], x: Tensor, config: dict, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """x (tokens, d), scaled by the caller's training script, through the SAE, and scaled back."""
    z = scale * x - held["b_dec"] * config["apply_b_dec_to_input"]
    z = z @ held["W_enc"] + held["b_enc"]
    norms = held["W_dec"].norm(dim=-1)
    ranked = bool(config.get("rescale_acts_by_decoder_norm"))
    if config["architecture"] == "topk":
        z = z * norms if ranked else z
        best = torch.topk(z, config["k"], dim=-1)
        a = torch.zeros_like(z).scatter_(-1, best.indices, best.values.relu())
    elif config["architecture"] == "jumprelu":
        a = torch.relu(z) * (z > held["threshold"])
    else:
        a = torch.relu(z)
    out = (a / norms if ranked else a) @ held["W_dec"] + held["b_dec"]
    return a, out / scale


def _write_sae(folder: Path, held: dict, config: dict) -> Path:
    return _folder(folder, "sae_weights.safetensors", held, "cfg.json", config)


SAES = [
    _sae_config("standard", apply_b_dec_to_input=True),
    _sae_config("jumprelu"),
    _sae_config("jumprelu", apply_b_dec_to_input=True),
    _sae_config("topk", k=4, apply_b_dec_to_input=True),
    _sae_config("topk", k=4, rescale_acts_by_decoder_norm=True),
]


@pytest.mark.parametrize("config", SAES, ids=lambda c: c["architecture"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_an_sae_of_saelens_computes_the_same_here(tmp_path, config, scale):
    if scale:
        config = config | {"normalize_activations": "expected_average_only_in"}
    held = _sae()
    made = formats.read(_write_sae(tmp_path / "a", held, config), input_scale=scale)
    x = 3 * _random(TOKENS, D, seed=9)
    codes, reconstruction = _sae_forward(held, x, config, scale or 1.0)
    _same(made, x[:, None], codes, reconstruction[:, None])


def test_the_factor_on_activations_is_found_beside_the_weights(tmp_path):
    config = _sae_config("jumprelu", normalize_activations="expected_average_only_in")
    source = _write_sae(tmp_path / "a", _sae(), config)
    with pytest.raises(ValueError, match="--input-scale"):
        formats.read(source)
    (source / "activation_scaler.json").write_text('{"scaling_factor": 0.3}')
    x = 3 * _random(TOKENS, D, seed=9)
    codes, reconstruction = _sae_forward(_sae(), x, config, 0.3)
    _same(formats.read(source), x[:, None], codes, reconstruction[:, None])


@pytest.mark.parametrize("function", ["relu", "topk"])
def test_the_keys_of_saelens_before_version_6(tmp_path, function):
    """No architecture, no metadata; b_dec is taken from the input unless the file says otherwise."""
    old = {
        "d_in": D,
        "d_sae": LATENTS,
        "hook_point": "blocks.0.hook_mlp_out",
        "activation_fn_str": function,
        "activation_fn_kwargs": {"k": 4} if function == "topk" else {},
        "normalize_activations": False,
    }
    held = {name: t for name, t in _sae().items() if name != "threshold"}
    source = _write_sae(tmp_path / "a", held | {"scaling_factor": torch.ones(LATENTS)}, old)
    modern = _sae_config("topk" if function == "topk" else "standard", k=4)
    x = _random(TOKENS, D, seed=9)
    codes, reconstruction = _sae_forward(held, x, modern | {"apply_b_dec_to_input": True})
    _same(formats.read(source), x[:, None], codes, reconstruction[:, None])


@pytest.mark.parametrize(
    ("selection", "thresholds", "architecture"),
    [
        ("threshold", torch.zeros(LATENTS), "standard"),
        ("threshold", torch.linspace(0, 4, LATENTS), "jumprelu"),
        ("topk", torch.zeros(LATENTS), "topk"),
    ],
)
def test_every_one_sided_dictionary_can_go_to_saelens(
    tmp_path, selection, thresholds, architecture
):
    made = _ours(thresholds, sides=1)
    made.selection = selection
    formats.write(made, tmp_path / "out", "saelens")
    held = load_file(tmp_path / "out" / "sae_weights.safetensors")
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert config["architecture"] == architecture
    assert ("threshold" in held) == (architecture == "jumprelu")
    x = _random(TOKENS, D, seed=9)
    codes, reconstruction = _sae_forward(held, x, config)
    _same(made, x[:, None], codes, reconstruction[:, None])
    assert formats.read(tmp_path / "out").k == 3


def test_a_crosscoder_cannot_go_to_saelens(tmp_path):
    with pytest.raises(ValueError, match="one side, this dictionary has 2"):
        formats.write(_ours(torch.zeros(LATENTS)), tmp_path / "out", "saelens")


@pytest.mark.parametrize("lower", [False, True])
def test_a_gemma_scope_sae_computes_the_same_here(tmp_path, lower):
    folder = tmp_path / "average_l0_7"
    folder.mkdir()
    held = _sae()
    named = {(n.lower() if lower else n): t.numpy() for n, t in held.items()}
    np.savez(folder / "params.npz", **named)
    x = _random(TOKENS, D, seed=9)
    codes, reconstruction = _sae_forward(held, x, _sae_config("jumprelu"))
    for source in (folder, folder / "params.npz"):
        made = formats.read(source)
        _same(made, x[:, None], codes, reconstruction[:, None])
        assert made.k == 7, "the folder's name says the mean number of active latents"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_become_float32(tmp_path, dtype):
    held = {name: t.to(dtype) for name, t in _sae().items()}
    made = formats.read(_write_sae(tmp_path / "a", held, _sae_config("jumprelu")))
    assert made.encoder.dtype == torch.float32
    torch.testing.assert_close(made.encoder[0], held["W_enc"].float())


# --- what is refused ------------------------------------------------------------------------------


def _change(key: str, value: object) -> Callable[[dict, dict], None]:
    return lambda held, config: config.__setitem__(key, value)


def _tensor(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict, dict], None]:
    return lambda held, config: held.__setitem__(name, change(held[name]))


def _without(name: str) -> Callable[[dict, dict], None]:
    return lambda held, config: held.__delitem__(name)


def _nan(t: Tensor) -> Tensor:
    return torch.where(torch.arange(t.numel()).view(t.shape) == 1, torch.nan, t)


BAD_SAES = [
    (_change("architecture", "gated"), "'gated' cannot be a Dictionary; supported: standard"),
    (_change("architecture", "transcoder"), "'transcoder' cannot be"),
    (_change("architecture", "batchtopk"), "saved for inference is a jumprelu"),
    (_change("d_out", D), "cannot be a Dictionary"),
    (_change("activation_fn", "tanh-relu"), "activation 'tanh-relu'"),
    (_change("normalize_activations", "layer_norm"), "'layer_norm' is no common factor"),
    (_change("normalize_activations", "expected_average_only_in"), "--input-scale"),
    (_change("apply_b_dec_to_input", "yes"), "apply_b_dec_to_input is 'yes'"),
    (_change("d_in", D + 1), r"W_enc has shape \(12, 20\), expected \(13, 20\)"),
    (_change("d_sae", "20"), "d_sae is '20', expected a positive whole number"),
    (_tensor("W_dec", _nan), "W_dec holds NaN or infinity in 1 of 240"),
    (_tensor("threshold", lambda t: t / 0), "threshold holds NaN or infinity"),
    (_tensor("W_enc", lambda t: t.to(torch.int8)), "W_enc is torch.int8; weights must be float32"),
    (_without("threshold"), "no tensor threshold; it holds W_dec, W_enc, b_dec, b_enc"),
    (
        lambda held, config: held.update(scaling_factor=torch.full((LATENTS,), 2.0)),
        "scaling_factor differs from 1",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_SAES, ids=lambda v: v if type(v) is str else "")
def test_an_sae_that_cannot_be_read_is_refused(tmp_path, spoil, message):
    held, config = _sae(), _sae_config("jumprelu")
    spoil(held, config)
    with pytest.raises(ValueError, match=message):
        formats.read(_write_sae(tmp_path / "a", held, config))


def test_a_topk_sae_must_say_its_k_and_be_able_to_keep_it(tmp_path):
    with pytest.raises(ValueError, match="without k; give it with --k"):
        formats.read(_write_sae(tmp_path / "a", _sae(), _sae_config("topk")))
    with pytest.raises(ValueError, match=r"k in 1\.\.latents"):
        formats.read(_write_sae(tmp_path / "b", _sae(), _sae_config("topk", k=LATENTS + 1)))
    zero = _sae()
    zero["W_dec"][0] = 0
    config = _sae_config("topk", k=4, rescale_acts_by_decoder_norm=True)
    with pytest.raises(ValueError, match="decoder row is zero"):
        formats.read(_write_sae(tmp_path / "c", zero, config))


BAD_CROSSCODERS = [
    (_change("dict_class", "BatchTopKSAE"), "'BatchTopKSAE' cannot be read; supported: CrossCoder"),
    (_change("dict_class", "CrossCoder"), "is CrossCoder, but there is a threshold"),
    (_change("num_layers", 3), "num_layers, dict_size, activation_dim"),
    (_change("dict_size", LATENTS - 1), "num_layers, dict_size, activation_dim"),
    (_change("encoder_layers", [2]), r"encoder_layers \[2\], but there are 2 layers"),
    (_change("code_normalization", "SAE"), "stored with the weights: CROSSCODER"),
    (_tensor("code_normalization_id", lambda t: t * 5), "DECOUPLED"),
    (_tensor("code_normalization_id", lambda t: t * 9), "code_normalization_id 9"),
    (_tensor("threshold", lambda t: -t), "never learnt"),
    (_tensor("encoder.bias", lambda t: t[1:]), r"encoder.bias has shape \(19,\), expected \(20,\)"),
    (_tensor("decoder.weight", lambda t: t[0]), "a crosscoder's is"),
    (_tensor("decoder.bias", _nan), "decoder.bias holds NaN"),
    (_tensor("activation_mean", _nan), "activation_mean holds NaN or infinity in 1 of 24"),
    (_tensor("activation_global_scale", lambda t: -t), "must be positive"),
    (_without("activation_global_scale"), "no tensor activation_global_scale"),
    (_without("threshold"), "is BatchTopKCrossCoder, but there is no threshold"),
]


@pytest.mark.parametrize(
    ("spoil", "message"), BAD_CROSSCODERS, ids=lambda v: v if type(v) is str else ""
)
def test_a_crosscoder_that_cannot_be_read_is_refused(tmp_path, spoil, message):
    held, config = _crosscoder() | _normaliser() | _batch_topk(5.0), _config()
    spoil(held, config)
    with pytest.raises(ValueError, match=message):
        formats.read(_write_theirs(tmp_path / "a", held, config))


@pytest.mark.parametrize("layout", ["saelens", "dictionary-learning", "gemma-scope", "ours"])
def test_a_truncated_file_is_named(tmp_path, layout):
    folder = tmp_path / "a"
    if layout == "saelens":
        weights = _write_sae(folder, _sae(), _sae_config("jumprelu")) / "sae_weights.safetensors"
    elif layout == "dictionary-learning":
        weights = _write_theirs(folder, _crosscoder(), _config("CrossCoder")) / "model.safetensors"
    elif layout == "gemma-scope":
        folder.mkdir()
        weights = folder / "params.npz"
        np.savez(weights, **{name: t.numpy() for name, t in _sae().items()})
    else:
        _ours(torch.zeros(LATENTS)).save(folder)
        weights = folder / "dictionary.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(ValueError, match=f"{weights.name} is truncated"):
        formats.read(folder)


def test_pickles_are_refused_with_a_way_out(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "BatchTopKCrossCoder"}}')
    for source in (tmp_path, tmp_path / "ae.pt"):
        with pytest.raises(ValueError, match=r"ae.pt, a pickle.*save_pretrained"):
            formats.read(source)
    np.savez(tmp_path / "params.npz", W_enc=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="no npz file of numbers"):
        formats.read(tmp_path / "params.npz")


def test_what_is_no_dictionary_is_named(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        formats.read(tmp_path / "nothing")
    with pytest.raises(ValueError, match="found nothing"):
        formats.read(tmp_path)
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(ValueError, match=r"cfg\.json is no JSON file"):
        formats.read(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list"):
        formats.read(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps(_sae_config("standard")))
    with pytest.raises(ValueError, match=r"sae_weights.safetensors is missing"):
        formats.read(tmp_path)
    _ours(torch.zeros(LATENTS)).save(tmp_path / "ours")
    (tmp_path / "ours" / "dictionary.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match=r"dictionary\.json: sides is None"):
        formats.read(tmp_path / "ours")


def test_options_that_mean_nothing_are_refused(tmp_path):
    sae = _write_sae(tmp_path / "a", _sae(), _sae_config("topk", k=4))
    with pytest.raises(ValueError, match="k = 4, you said 5"):
        formats.read(sae, k=5)
    with pytest.raises(ValueError, match="leave the input scale out"):
        formats.read(sae, input_scale=2.0)
    crosscoder = _write_theirs(tmp_path / "b", _crosscoder(), _config("CrossCoder"))
    assert formats.read(crosscoder, k=5).k == 5
    with pytest.raises(ValueError, match="k=0"):
        formats.read(crosscoder, k=0)
    with pytest.raises(ValueError, match="for SAELens alone"):
        formats.read(crosscoder, input_scale=2.0)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sides", "to"), [(1, "saelens"), (2, "dictionary-learning")])
def test_a_trained_dictionary_survives_there_and_back(tmp_path, capsys, sides, to):
    x = _random(1024, sides, D, seed=5) + 3
    recipe = Sparse(k=3, batch=128, max_steps=40, evaluate_every=20)
    made, _ = train(list(x.split(128)), recipe, latents=LATENTS)
    made.save(tmp_path / "ours")
    there, back = tmp_path / "there", tmp_path / "back"
    assert main(["convert", str(tmp_path / "ours"), str(there), "--to", to]) == 0
    assert main(["convert", str(there), str(back), "--to", "ours"]) == 0
    assert f"read {to}: {sides} side(s), d {D}, {LATENTS} latents, k 3" in capsys.readouterr().out
    codes = made.encode(x)
    again = Dictionary.load(back)
    _same(again, x, codes, made.decode(codes))
    assert again.k == made.k


def test_the_command_never_overwrites_and_says_what_is_wrong(tmp_path, capsys):
    made = _ours(torch.zeros(LATENTS))
    made.save(tmp_path / "ours")
    arguments = ["convert", str(tmp_path / "ours"), str(tmp_path / "out"), "--to"]
    assert main([*arguments, "saelens"]) == 1
    assert "one side" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    assert main([*arguments, "dictionary-learning"]) == 0
    assert main([*arguments, "dictionary-learning"]) == 1
    assert "exists already" in capsys.readouterr().err
