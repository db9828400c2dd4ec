"""Raw PyTorch hooks and loops over tokens and latents: the oracle of live interventions."""

import torch

from lib.metrics.divergence import kl_per_token
from tests.ablation.bundles import PROMPT, SKIP


def prompt_ids(loaded, text=PROMPT):
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([[loaded.tokenizer.bos_token_id, *ids]])


def by_hooks(session, edits, *, base=False, scale=None):
    """Activations and logits through plain forward hooks; edits: layer -> f(x) on (seq, d).

    scale: (layers, factor) multiplies the B matrices of the adapter there.
    """
    loaded = session.loaded
    seen, handles = {}, []
    for layer, edit in edits.items():

        def hook(module, args, output, layer=layer, edit=edit):
            seen[layer] = output[0].clone()
            changed = output.clone()
            changed[0, SKIP:] = edit(output[0])[SKIP:]
            return changed

        handles.append(loaded.hooked(layer, session.info.hook).register_forward_hook(hook))
    weights = _written(loaded, *scale) if scale else []
    former = [w.data.clone() for w in weights]
    for w in weights:
        w.data *= scale[1]
    ids = prompt_ids(loaded)
    with torch.no_grad():
        if base:
            with loaded.model.disable_adapter():
                logits = loaded.model(ids).logits[0]
        else:
            logits = loaded.model(ids).logits[0]
    for w, value in zip(weights, former, strict=True):
        w.data = value
    for handle in handles:
        handle.remove()
    return seen, logits


def _written(loaded, layers, factor):
    return [
        weight
        for layer in layers
        for name, weight in loaded.block(layer).named_parameters()
        if "lora_B" in name
    ]


def slow(kind, x_base, part, ids, strength):
    """An intervention token by token, latent by latent."""
    rows = [part.latents.tolist().index(i) for i in ids]

    def code(j, base, tuned):
        a = float(base @ part.encoder[j, 0] + tuned @ part.encoder[j, 1] + part.encoder_bias[j])
        return a if a > max(0.0, float(part.thresholds[j])) else 0.0

    def change(x):
        out = x.clone()
        if kind == "full_patch":
            return x + strength * (x_base - x)
        if kind == "subspace_swap":
            p = _projection(part.decoder[rows, 1].double()).float()
            return x + strength * (x_base - x) @ p
        for t in range(len(x)):
            for j in rows:
                tuned, both = part.decoder[j, 1], code(j, x_base[t], x[t])
                out[t] -= (
                    strength
                    * {
                        "pair_clamp": both * (tuned - part.decoder[j, 0]),
                        "code_clamp": (code(j, x[t], x[t]) - code(j, x_base[t], x_base[t])) * tuned,
                        "zero": both * tuned,
                        "steer": -tuned,
                    }[kind]
                )
        return out

    return change


def _projection(rows):
    """On the span of the rows, by Gram and Schmidt; what is left of a repeated one is rounding."""
    p = rows.new_zeros(rows.shape[1], rows.shape[1])
    for row in rows:
        left = row - p @ row
        if left.norm() > 1e-3 * row.norm():
            p = p + torch.outer(left, left) / left.square().sum()
    return p


def ceiling_by_hooks(session, layers, text):
    """KL per scored token with base activations patched in at these depths, and without."""
    loaded, base = session.loaded, {}
    ids = prompt_ids(loaded, text)

    def keep(layer):
        return lambda module, args, output: base.update({layer: output.clone()})

    def patch(layer):
        def hook(module, args, output):
            output = output.clone()
            output[:, SKIP:] = base[layer][:, SKIP:]
            return output

        return hook

    def logits(make):
        handles = [
            loaded.hooked(k, session.info.hook).register_forward_hook(make(k)) for k in layers
        ]
        with torch.no_grad():
            made = loaded.model(ids).logits[0, SKIP:]
        for handle in handles:
            handle.remove()
        return made

    with loaded.model.disable_adapter():
        reference = logits(keep)
    with torch.no_grad():
        tuned = loaded.model(ids).logits[0, SKIP:]
    return kl_per_token(logits(patch), reference), kl_per_token(tuned, reference)
