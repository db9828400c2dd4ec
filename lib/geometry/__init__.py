"""The geometry of an adapter: what it adds to activations, in which directions, and in its weights.

Chance comes with every angle and cosine (``distance``), held-out text and fair baselines with every
fit. Definitions and their source: arXiv:2605.28896, whose claims this lets one test.
"""
