"""Sparse dictionaries: one ``Dictionary`` class for SAEs (sides = 1) and crosscoders (sides = 2)."""

from lib.sparse.dictionary import Dictionary
from lib.sparse.train import TrainingLog, train

__all__ = ["Dictionary", "TrainingLog", "train"]
