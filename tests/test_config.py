"""Experiments files and the layer rule."""

from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from lib import config, paths
from lib.ablation.limits import DRAWS_LIMIT
from lib.config import ConfigError, Harvest, Recipe, Text, layer_at, layers_of, studies

PLAIN = "models: [a]\ncorpora: [b]\n"


@pytest.mark.parametrize(
    ("depth", "n_layers", "layer"),
    [(0.25, 30, 7), (0.5, 30, 15), (0.75, 30, 22), (0.9, 30, 27), (0.9, 10, 9), (0.0, 2, 0)],
)
def test_layer_rule(depth: float, n_layers: int, layer: int):
    assert layer_at(depth, n_layers) == layer


def test_never_fewer_than_two_layers():
    assert layers_of(Harvest(depths=(0.0, 0.5)), 2) == [0, 1]
    with pytest.raises(ConfigError, match="at least two depths"):
        layers_of(Harvest(depths=(0.1, 0.2)), 2)


def test_the_committed_file_describes_four_experiments():
    found = config.load(Path("data/experiments/embedded.yaml"))
    assert [e.id for e in found] == [
        f"smollm2-135m.{c}.r16.t50.s0"
        for c in ("stoic_notes", "moral_letters", "dtc_ads", "instructions")
    ]


def test_equal_content_has_equal_ids_and_a_changed_field_another():
    one, two = config.Sparse(), config.Sparse()
    assert config.content_id(one) == config.content_id(two)
    assert config.content_id(one) != config.content_id(config.Sparse(k=31))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [a]", "corpora"),
        ("- a\n- b", "expected keys"),
        ("models: [a]\ncorpora: [b]\nrecipe: {sparse: {lr: fast}}", "must be a number"),
        ("models: [a]\ncorpora: [b]\nseeds: [yes]", "must be int"),
        ("models: [a]\ncorpora: [b]\nrecipe: {harvest: {hook: attn}}", "one of mlp, residual"),
        ("models: [a, b]\ncorpora: [b]\nadapter: x", "exactly one model"),
        ("models: [\n", "not a YAML"),
        ("models: []\ncorpora: [b]", "at least one entry"),
        ('models: [a]\ncorpora: ["path:x/c.jsonl", "path:y/c.jsonl"]', "would both be called"),
        ("models: [a]\ncorpora: [b]\nrecipe: {live_controls: 0}", "above 0"),
        ("models: [a]\ncorpora: [b]\nrecipe: {text: {most_words: 10}}", "at least `minimum_words`"),
        ("models: [a]\ncorpora: [b]\nnulls: 100000000000000000000", "in 0..1000"),
        ("models: [a]\ncorpora: [b]\n<<: [a]", "expected a mapping for merging"),
        ("models: [a]\ncorpora: [b]\nkeep: all", "one of full, tables, summary, got 'all'"),
        ("models: [a]\ncorpora: [b]\nnulls: -1", "`nulls` must be in 0..1000"),
        (
            f"{PLAIN}recipe: {{finetune: {{rank: 0}}}}",
            "`recipe.finetune.rank` must be above 0, got 0",
        ),
        (f"{PLAIN}recipe: {{causal: {{draws: 0}}}}", "`recipe.causal.draws` must be above 0"),
        (f"{PLAIN}recipe: {{live_latents: 0}}", "`recipe.live_latents` must be above 0"),
        (
            f"{PLAIN}recipe: {{rank: 0}}",
            "unknown key `recipe.rank`; that is `recipe.finetune.rank`",
        ),
        (f"{PLAIN}rank: 8", "unknown key `rank`; that is `recipe.finetune.rank`"),
        (f"{PLAIN}recipe: {{batch: 8}}", "`recipe.finetune.batch` or `recipe.sparse.batch`"),
        (f"{PLAIN}recipe: {{sparse: {{unti_k: 8}}}}", "the nearest valid one is `untied_k`"),
        (f"{PLAIN}recipe: {{zzz: 0}}", "`recipe.zzz`; valid are finetune, text, harvest, sparse"),
        (f"{PLAIN}recipe: {{sparse: 5}}", "`recipe.sparse` must hold keys, found 5"),
        ('models: [""]\ncorpora: [b]', "`models` must be distinct names, none of them empty"),
        ("models: [a]\ncorpora: [b, b]", "`corpora` must be distinct names"),
        (f"{PLAIN}adapter: ' '", "`adapter` must be a folder; leave the key out"),
        ("models: " + "[" * 5000 + "]" * 5000, "within each other"),
        ("models: [a]\ncorpora: [2026-13-45]", "not a YAML text file: month"),
        (f"{PLAIN}recipe: {{sparse: {{lr: 1{'0' * 400}}}}}", "`recipe.sparse.lr` must be a number"),
        (
            f"{PLAIN}recipe: {{sweep: {{ranks: [2], corpora: [c, b]}}}}",
            "`recipe.sweep.corpora` must be names of corpora of this file, which are b, got .'c', 'b'",
        ),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, text: str, says: str):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        config.load(file)


def test_a_merge_key_gives_what_is_not_said_again(tmp_path: Path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "models: [a]\ncorpora: [b]\nrecipe:\n  finetune: &f {rank: 4, steps: 7}\n  sparse: {k: 8}\n"
    )
    plain = config.load(file)
    file.write_text(
        "models: [a]\ncorpora: [b]\nrecipe:\n  finetune: {<<: {rank: 4, steps: 9}, steps: 7}\n"
        "  sparse: {k: 8}\n"
    )
    assert config.load(file) == plain


@pytest.mark.parametrize(
    ("part", "field", "wrong", "rule"),
    [
        ("finetune", "alpha", (0, -1), "above 0"),
        ("finetune", "warmup", (-5,), "at least 0"),
        ("finetune", "targets", ("[]",), "at least one name of a module"),
        ("finetune", "targets", ('[q_proj, ""]', "[q_proj, q_proj]"), "distinct names"),
        ("sparse", "difference_weight", (0, -2), "above 0"),
        ("sparse", "aux_weight", (-0.1,), "at least 0"),
        ("sparse", "dead_after", (0, -0.1, 1.5), "above 0, up to 1"),
        ("causal", "draws", (1001, 10**8), "in 1..1000"),
        ("lens", "temperature", ("1e-320", 0, 101), "in 0.01..100"),
        ("sweep", "scales", ("[1.0e+300]", "[0.0, 17.0]"), "each up to 16"),
        ("sweep", "mixing", ("[1.0e+308]",), "each up to 64"),
        ("sweep", "checkpoints", (f"[{10**20}]",), "below 2"),
        ("geometry", "max_steps", (10**23,), "below 2"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_by_its_path(tmp_path, part, field, wrong, rule):
    for value in wrong:
        file = tmp_path / "x.yaml"
        file.write_text(f"{PLAIN}recipe: {{{part}: {{{field}: {value}}}}}")
        with pytest.raises(ConfigError, match=f"`recipe.{part}.{field}` must be {rule}"):
            config.load(file)


def _floats(kind: type, where: str = "") -> list[str]:
    """Paths of every number with a fraction, and of every list of such."""
    found = []
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found += _floats(hint, f"{where}{name}.")
        elif hint in (float, tuple[float, ...]):
            found.append(f"{where}{name}")
    return found


@pytest.mark.parametrize("path", _floats(Recipe))
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_nan_and_infinity_are_no_numbers_of_a_recipe(tmp_path: Path, path: str, value: str):
    file = tmp_path / "x.yaml"
    nested = f"{value}"
    for key in reversed(path.split(".")):
        nested = f"{{{key}: {nested}}}"
    file.write_text(f"{PLAIN}recipe: {nested}")
    with pytest.raises(ConfigError, match=f"`recipe.{path}` must be"):
        config.load(file)


def test_there_are_numbers_to_try():
    assert {"finetune.lr", "sparse.flat_gain", "sweep.scales", "harvest.depths"} <= set(
        _floats(Recipe)
    )


def test_the_limit_on_draws_is_that_of_live_runs():
    assert studies.MOST_DRAWS == DRAWS_LIMIT


def test_a_limit_on_text_is_part_of_the_identity_only_where_it_is_set():
    """Results from before the limit existed are those without a limit."""
    plain, limited = Recipe(), Recipe(text=Text(most_words=12_000))
    assert "most_words" not in plain.identity["text"]
    assert limited.identity["text"]["most_words"] == 12_000


@pytest.mark.parametrize(
    "file", sorted((paths.ROOT / "data/experiments").glob("*.yaml")), ids=lambda f: f.stem
)
def test_every_experiments_file_of_the_store_loads(file: Path):
    assert config.load(file)
