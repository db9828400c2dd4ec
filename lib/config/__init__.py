"""What an experiment is, as frozen recipes.

One YAML file describes models x corpora x seeds under one recipe; ``load`` turns it into a list of
``Experiment``. Everything that can change a number is in here, so content hashes are complete.
"""

from lib.config.experiment import Experiment, layer_at, layers_of
from lib.config.file import load
from lib.config.recipe import Finetune, Harvest, Recipe, Sparse, Text
from lib.config.studies import Causal, Geometry, Lens, Sweep
from lib.config.values import ConfigError, content_id, corpus_name

__all__ = [
    "Causal",
    "ConfigError",
    "Experiment",
    "Finetune",
    "Geometry",
    "Harvest",
    "Lens",
    "Recipe",
    "Sparse",
    "Sweep",
    "Text",
    "content_id",
    "corpus_name",
    "layer_at",
    "layers_of",
    "load",
]
