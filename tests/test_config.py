"""Experiments files and the layer rule."""

from pathlib import Path

import pytest

from lib import config, paths
from lib.config import ConfigError, Harvest, Recipe, Text, layer_at, layers_of

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
        ("models: [a]\ncorpora: [b]\nkeep: all", "one of full, tables, summary, got 'all'"),
        ("models: [a]\ncorpora: [b]\nnulls: -1", "`nulls` must be at least 0"),
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
    ],
)
def test_unusable_files_say_why(tmp_path: Path, text: str, says: str):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        config.load(file)


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
