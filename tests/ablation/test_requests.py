"""Bundles on disk, choosing latents from them, and every request or bundle that must be refused."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib import paths
from lib.ablation import AblationError, AblationRequest, catalogue, limits, selection
from lib.ablation.bundle import load_slice, write_bundle
from lib.ablation.catalogue import Offered
from lib.ablation.request import LayerSet
from lib.ablation.scores import Judge
from lib.ablation.session import open_session
from lib.metrics import latents as latent_metrics
from tests.ablation.bundles import PROMPT, info_of, random_slice

# ---------------------------------------------------------------- on disk, and back


def test_bundle_round_trip(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1))
    info = info_of("x", "mlp", "abc")
    write_bundle(tmp_path, info, 7, **slice_)
    write_bundle(tmp_path, info, 3, **slice_)
    assert replace(catalogue.read_info(tmp_path), slices=()) == replace(info, layers=(3, 7))
    back = load_slice(tmp_path, 7, torch.device("cpu"))
    assert torch.equal(back.latents, slice_["latents"])
    assert torch.allclose(back.decoder, slice_["decoder"], rtol=1e-3, atol=1e-6)
    assert torch.equal(back.thresholds, slice_["thresholds"])
    offered = catalogue.offered(tmp_path, 7)
    assert offered.top == list(range(100, 108))
    assert offered.pool == list(range(108, 120))
    write_bundle(tmp_path, replace(info, base_hash="other"), 5, **slice_)  # measured anew
    assert catalogue.read_info(tmp_path).layers == (5,)


def test_bundle_refuses_what_it_cannot_hold(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1))
    info = info_of("x", "mlp", "")
    with pytest.raises(ValueError, match="fp16"):
        write_bundle(tmp_path, info, 0, **{**slice_, "decoder": 1e6 * slice_["decoder"]})
    with pytest.raises(ValueError, match="twice"):
        write_bundle(tmp_path, info, 0, **{**slice_, "latents": torch.zeros(20, dtype=int)})
    one_side = {name: slice_[name][:, :1] for name in ("encoder", "decoder")}
    with pytest.raises(ValueError, match="2 sides"):
        write_bundle(tmp_path, info, 0, **{**slice_, **one_side})


def test_bundles_without_nu_or_classes_say_so(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1))
    write_bundle(tmp_path, info_of("x", "mlp", ""), 0, **slice_)
    old = catalogue.offered(tmp_path, 0)
    assert old.orders == ["energy"]
    for order, what in (("nu", "latent scaling"), ("class:new", "classes of latents")):
        with pytest.raises(AblationError, match=f"{what}.*not in this bundle"):
            selection.ranked(old, order)


def test_ranking_by_energy_nu_and_class(tmp_path):
    slice_ = random_slice(torch.Generator().manual_seed(1), n_top=4, n_pool=3)
    nu_eps = torch.tensor([0.1, 0.9, math.nan, 0.3, 0.0, 0.0, 0.0])
    nu_r = torch.tensor([0.5, 0.2, 0.1, 0.4, 0.0, 0.0, 0.0])
    classes = ["shared", "new", "new", "amplified", "new", "dead", "shared"]
    measured = {"nu_eps": nu_eps, "nu_r": nu_r, "classes": classes}
    write_bundle(tmp_path, info_of("x", "mlp", ""), 0, **slice_, **measured)
    found = catalogue.offered(tmp_path, 0)
    assert found.orders == ["energy", "nu", "class:shared", "class:amplified", "class:new"]
    assert selection.ranked(found, "energy") == [100, 101, 102, 103]
    assert selection.ranked(found, "nu") == [103, 100, 101, 102]  # 0.4, 0.5, 0.9, undefined
    assert selection.ranked(found, "class:new") == [101, 102]  # the control pool is not offered
    assert selection.ranked(found, "class:dead") == []
    request = AblationRequest(experiment_id="x", prompt="p", order="class:dead")
    with pytest.raises(AblationError, match=r"class:dead; offered: energy, nu, class:shared"):
        selection.choose(request, info_of_layers(0), {0: found}, 2)
    picked = replace(request, order="class:new", top=1, picked=((0, 105), (0, 101)))
    chosen = selection.choose(picked, info_of_layers(0), {0: found}, 2)
    assert chosen == (LayerSet(0, (101, 105)),)
    listed = replace(request, top=0, picked=((0, 105),))
    assert selection.choose(listed, info_of_layers(0), {0: found}, 2) == (LayerSet(0, (105,)),)


def info_of_layers(*layers):
    return replace(info_of("x", "mlp", ""), layers=layers)


def test_classes_are_those_of_the_metrics():
    assert latent_metrics.CLASSES == limits.CLASSES


def test_random_latents_match_the_decile_and_are_drawn_anew():
    frequency = np.linspace(0.001, 0.5, 60)
    role = np.array(([0] + [1] * 5) * 10)
    offered = {3: Offered(np.arange(60), np.linspace(1, 0, 60), frequency, role)}
    chosen = (LayerSet(3, (0, 30, 54)),)
    decile = selection.deciles(offered[3])
    seen = set()
    for draw in range(20):
        (drawn,) = selection.draw_random(chosen, offered, 5, draw)
        assert sorted(decile[list(drawn.latents)]) == [0, 5, 9]
        assert not set(drawn.latents) & {0, 30, 54}
        assert (role[list(drawn.latents)] == 1).all()
        seen.add(drawn.latents)
    assert len(seen) > 15
    again = selection.draw_random(chosen, offered, 5, 7)
    assert again == selection.draw_random(chosen, offered, 5, 7)
    assert again != selection.draw_random(chosen, offered, 6, 7)


def test_a_used_up_decile_gives_way_to_the_nearest():
    role = np.array([0] * 4 + [1] * 16)
    frequency = np.repeat(np.linspace(0.01, 0.2, 10), 2)
    offered = {0: Offered(np.arange(20), np.linspace(1, 0, 20), frequency, role)}
    (drawn,) = selection.draw_random((LayerSet(0, (0, 1, 2, 3)),), offered, 0, 0)
    assert drawn.latents == (4, 5, 6, 7)


# ---------------------------------------------------------------- hostile input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"prompt": "x" * 300}, "300 tokens, the limit is 256"),
        ({"prompt": "abcd"}, "4 tokens; .* at least 5"),
        ({"prompt": "a prompt", "documents": ("and documents",)}, "not both"),
        ({"documents": ("long enough", " ")}, "document 2 of 2 is empty"),
        ({"documents": ("long enough", "abc")}, "document 2 of 2 has 3 tokens"),
        ({"documents": ("x" * 250,) * 80}, r"20,080 tokens, the limit is 16,384"),
        ({"documents": ("x" * 9,) * 513}, "513 texts, the limit is 512"),
        ({"neutral": ("",)}, "neutral text 1 of 1 is empty"),
        ({"layers": (0, 9)}, r"depth \[9\]; offered: \[0, 1\]"),
        ({"layers": (7,), "intervention": "full_patch"}, r"no depth \[7\]; .* has 0\.\.1"),
        ({"picked": ((1, 4),)}, r"latents \[4\] at layer 1 .* carries 20 .*100, 101"),
        ({"picked": ((1, 101),), "layers": (0,)}, "outside the chosen depths"),
        ({"picked": ((1, 101),), "intervention": "scale_lora"}, "has no latents"),
        ({"dose_tops": (3,), "intervention": "full_patch"}, "has no latents"),
        ({"top": 8, "picked": tuple((0, j) for j in range(108, 115))}, "at most 5"),
        ({"hook": "residual"}, "read the mlp hook, not residual"),
        ({"hook": "attention"}, "no hook 'attention'"),
        ({"order": "nu"}, "not in this bundle"),
        ({"order": "beauty"}, "no order 'beauty'; there are energy, nu"),
        ({"intervention": "delete"}, "no intervention 'delete'; there are pair_clamp"),
        ({"controls": ("placebo",)}, "no control 'placebo'; there are random_latents"),
        ({"controls": ("gaussian", "gaussian")}, "name one twice"),
        ({"strength": 1.5}, r"0\.\.1, got 1\.5"),
        ({"strength": -0.1}, r"0\.\.1"),
        ({"strength": math.nan}, "strength is nan: give a finite number"),
        ({"strength": math.inf, "intervention": "steer"}, "finite"),
        ({"strength": 2.1, "intervention": "scale_lora"}, r"0\.\.2"),
        ({"dose_strengths": (0.5, math.nan)}, "strength is nan"),
        ({"dose_tops": (-1,)}, "0 or more latents"),
        ({"dose_strengths": (0.5,) * 65}, "65 dose points, the limit is 64"),
        ({"top": -1}, "top=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"draws": 1001}, "1001 draws, the limit is 1000"),
        ({"prompt_limit": 0}, "prompt_limit=0"),
        ({"strength": 1e30, "intervention": "steer"}, r"-1e\+06\.\.1e\+06, got 1e\+30"),
    ],
)
def test_requests_that_cannot_run_say_why(run_live, fields, message):
    with pytest.raises(ValueError, match=message):
        run_live("both", **fields)


def test_the_set_that_cannot_be_matched_runs_without_that_control(run_live):
    many = {"top": 8, "picked": tuple((0, j) for j in range(108, 115)), "layers": (0,)}
    result = run_live("both", **many, controls=("gaussian",))
    assert len(result.selected[0].latents) == 15


def test_a_model_driven_out_of_its_range_is_refused_not_scored(sessions):
    judge = Judge(sessions["both"].loaded)
    hidden = torch.ones(2, 6, 32)
    hidden[1, 3, 5] = torch.nan
    with pytest.raises(ValueError, match="run 1 are not finite at scored token 3"):
        judge.scores(hidden, torch.ones(6, 32))
    with pytest.raises(ValueError, match="not finite"):
        judge.nll(hidden[1], torch.zeros(6, dtype=torch.long))


def test_an_edge_of_the_shortest_prompt_has_every_control(run_live):
    result = run_live("both", prompt=PROMPT[:5], top=8)
    assert result.tuned.documents[0].tokens == 2
    assert len(result.controls) == 15


def broken(bundles, tmp_path, change):
    """A copy of the bundle ``both`` with something changed."""
    shutil.copytree(paths.live_bundle("both", bundles), paths.live_bundle("both", tmp_path))
    change(paths.live_bundle("both", tmp_path))
    with pytest.raises(ValueError) as caught:
        open_session("both", directory=tmp_path, device="cpu")
    return str(caught.value)


def change_info(**fields):
    def change(bundle):
        data = json.loads((bundle / "bundle.json").read_text())
        (bundle / "bundle.json").write_text(json.dumps({**data, **fields}))

    return change


def test_parts_that_do_not_belong_together(bundles, tmp_path):
    told = broken(bundles, tmp_path / "a", change_info(base_hash="0123456789abcdef"))
    assert "0123456789abcdef" in told
    assert "python -m lib run" in told
    told = broken(bundles, tmp_path / "b", change_info(adapter_hash="feed"))
    assert "trained with feed" in told
    told = broken(bundles, tmp_path / "c", change_info(version=99))
    assert "format 99" in told
    told = broken(bundles, tmp_path / "d", lambda b: (b / "layer_01.safetensors").unlink())
    assert "layer_01.safetensors is missing" in told
    told = broken(bundles, tmp_path / "e", lambda b: (b / "adapter").rename(b / "gone"))
    assert "adapter is missing" in told
    told = broken(bundles, tmp_path / "f", change_info(base_model="no-such-model"))
    assert "no model 'no-such-model'" in told


def test_adapter_of_another_model(bundles, tmp_path):
    def other_width(bundle):
        file = bundle / "adapter" / "adapter_model.safetensors"
        save_file({k: torch.cat([v, v], -1) for k, v in load_file(file).items()}, file)

    assert "made for another model" in broken(bundles, tmp_path, other_width)


def test_missing_bundle_names_what_is_offered(bundles):
    with pytest.raises(AblationError, match=r"'nothing' .*offered: both, last, planted"):
        open_session("nothing", directory=bundles)
    with pytest.raises(AblationError, match="there is none yet"):
        open_session("../../etc", directory=bundles / "empty")
