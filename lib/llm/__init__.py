"""A language model behind an OpenAI-compatible address: the interpretability agent, feature
labels, a judge of the lens' tokens.

Off unless the environment names an address and a model, and nothing is sent without consent.
Source of the agent: Minder, Dumas et al. 2025, arXiv:2510.13900.
"""
