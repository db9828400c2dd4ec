"""What the audit measures: pure functions of tensors or numbers, one module per question.

``intervals``, ``statistics`` and ``regimes`` need numpy only, so the dashboard may use them
without torch; ``cka``, ``divergence``, ``reconstruction``, ``displacement`` and ``latents`` work
on tensors.
"""
