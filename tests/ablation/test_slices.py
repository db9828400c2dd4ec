"""Slices of live bundles that are not what they should be: each is refused in clear words."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lib import paths
from lib.ablation import AblationError, catalogue, slices
from lib.ablation.bundle import load_slice, write_bundle
from lib.ablation.session import open_session
from tests.ablation.bundles import info_of, random_slice

CPU = torch.device("cpu")
FILE = "layer_01.safetensors"


@pytest.fixture
def copy(bundles, tmp_path):
    """The bundle ``both``, to be spoilt."""
    target = paths.live_bundle("both", tmp_path)
    shutil.copytree(paths.live_bundle("both", bundles), target)
    return target


def unhashed(bundle):
    """As bundles were written before there were hashes."""
    file = bundle / "bundle.json"
    data = json.loads(file.read_text())
    del data["slices"]
    file.write_text(json.dumps(data))
    return bundle


def refused(bundle, tmp_path):
    """What both readers, the page's and the worker's, say of it: the same."""
    with pytest.raises(AblationError) as page:
        catalogue.offered(bundle, 1)
    with pytest.raises(AblationError) as worker:
        open_session("both", directory=tmp_path, device="cpu")
    assert str(page.value) == str(worker.value)
    assert "python -m lib run" in str(page.value)
    return str(page.value)


def changed(bundle, **tensors):
    held = {**load_file(bundle / FILE), **tensors}
    save_file({name: x for name, x in held.items() if x is not None}, bundle / FILE)


def test_a_bundle_names_the_hash_of_every_slice_in_the_order_of_its_layers(tmp_path):
    info, random = info_of("x", "mlp", ""), torch.Generator().manual_seed(1)
    for layer in (7, 3):
        write_bundle(tmp_path, info, layer, **random_slice(random))
    found = catalogue.read_info(tmp_path)
    assert found.layers == (3, 7)
    own = tuple(slices.digest(catalogue.slice_file(tmp_path, layer)) for layer in (3, 7))
    assert found.slices == own
    assert own[0] != own[1]
    assert [found.slice_hash(layer) for layer in (3, 7, 5)] == [*own, ""]
    write_bundle(tmp_path, info, 7, **random_slice(random))  # anew: only its own hash changes
    again = catalogue.read_info(tmp_path)
    assert again.slices[0] == own[0]
    assert again.slices[1] != own[1]


def test_the_slice_of_another_dictionary_is_refused_where_there_are_hashes(copy, tmp_path):
    write_bundle(tmp_path / "other", info_of("other", "mlp", ""), 1,
                 **random_slice(torch.Generator().manual_seed(9)))  # fmt: skip
    shutil.copy(tmp_path / "other" / FILE, copy / FILE)
    told = refused(copy, tmp_path)
    assert f"{FILE} is not the slice that this bundle was written with" in told
    unhashed(copy)
    assert len(load_slice(copy, 1, CPU).latents) == 20  # nothing to tell it by


def test_a_bundle_without_hashes_gives_the_same_session(bundles, copy, tmp_path):
    whole = open_session("both", directory=bundles, device="cpu")
    old = open_session("both", directory=unhashed(copy).parents[1], device="cpu")
    assert old.info == replace(whole.info, slices=())
    for layer in (0, 1):
        pairs = zip(whole.slices[layer], old.slices[layer], strict=True)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["encoder", "decoder", "encoder_bias", "thresholds"])
def test_values_that_are_not_finite_are_refused_with_the_file(copy, name, value):
    unhashed(copy)
    tensor = load_file(copy / FILE)[name].copy()
    tensor[(3, *([0] * (tensor.ndim - 1)))] = value
    changed(copy, **{name: tensor})
    with pytest.raises(AblationError, match=rf"{FILE} holds 1 values of {name} .* of latent 103"):
        load_slice(copy, 1, CPU)


@pytest.mark.parametrize("name", ["encoder", "decoder", "encoder_bias", "thresholds"])
def test_values_that_are_not_finite_are_not_written(tmp_path, name):
    part = random_slice(torch.Generator().manual_seed(1))
    part[name] = part[name].clone()
    part[name].view(-1)[5] = torch.nan
    with pytest.raises(ValueError, match=name):
        write_bundle(tmp_path, info_of("x", "mlp", ""), 0, **part)


def test_torn_empty_and_missing_files_are_refused(copy, tmp_path):
    whole = (copy / FILE).read_bytes()
    (copy / FILE).write_bytes(whole[:500])
    assert "is not the slice that this bundle was written with" in refused(copy, tmp_path)
    unhashed(copy)
    assert "is damaged (500 bytes: " in refused(copy, tmp_path)
    (copy / FILE).write_bytes(b"")
    assert "is damaged (it is empty)" in refused(copy, tmp_path)
    (copy / FILE).unlink()
    assert "is missing though bundle.json names it" in refused(copy, tmp_path)


HALF = np.zeros((20, 2, 16), np.float16)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"thresholds": None}, "holds no thresholds"),
        ({"encoder": None, "role": None}, "holds no encoder, role"),
        ({"decoder": HALF}, r"decoder of shape \[20, 2, 16\], not \[20, 2, 32\]"),
        (
            {"encoder": HALF, "decoder": HALF},
            "is for width 16, tiny-llama has 2 layers of width 32",
        ),
        ({"thresholds": np.ones(19, np.float32)}, r"thresholds of shape \[19\], not \[20\]"),
        ({"encoder": np.zeros((20, 32), np.float16)}, r"an encoder of \[20, 32\]"),
        ({"latents": np.full(20, 3)}, "names a latent twice"),
        ({"latents": np.arange(500, 520)}, "names latent 512, but its dictionary has 512"),
        ({"latents": np.arange(20) * 1.0}, "latents as float64, not whole numbers"),
        ({"thresholds": np.ones(20, np.int32)}, "thresholds as int32, not floating-point"),
        ({"role": np.full(20, 2, np.int8)}, r"role outside 0\.\.1"),
        ({"frequency": np.full(20, np.nan, np.float32)}, "20 values of frequency"),
    ],
)
def test_a_slice_of_another_kind_is_refused(copy, tmp_path, tensors, told):
    changed(unhashed(copy), **tensors)
    with pytest.raises(AblationError, match=told):
        open_session("both", directory=tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"layers": "abc"}, "layers holds 'abc'"),
        ({"layers": [0, "1"]}, "part 2 of 2 holds '1'"),
        ({"layers": [1, 0]}, "not depths in order"),
        ({"layers": [-1]}, "not depths in order"),
        ({"layers": []}, "names no depth"),
        ({"hook": "attention"}, "hook is 'attention'"),
        ({"n_latents": None}, "n_latents holds None"),
        ({"slices": ["a"]}, "2 depths and 1 hashes"),
        ({"slices": 3}, "slices holds 3"),
        ({"more": 1}, "does not hold what it should"),
    ],
)
def test_a_bundle_json_that_is_not_one_is_refused(copy, fields, told):
    file = copy / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    with pytest.raises(AblationError, match=told):
        catalogue.read_info(copy)
