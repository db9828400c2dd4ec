"""Inside/Out: a two-axis audit of LoRA fine-tunes.

One direction of flow, and of imports (tests/test_layers.py enforces it):

    config, paths, corpora -> models -> sampling -> finetune -> activations -> sparse -> metrics
    -> geometry -> lens -> ablation -> store -> llm -> figures -> evidence -> pipeline; ui and pages
    stand at the end

Axis names used in every signature:
    tokens   positions pooled over documents      sides    0 = base, 1 = fine-tuned
    seq      positions inside one window          d        width of the hooked activation
    latents  dictionary size                      vocab    vocabulary size
"""
