"""The activation difference lens: what differences of activations on unrelated text give away.

Source: Minder, Dumas et al. 2025, arXiv:2510.13900.
"""
