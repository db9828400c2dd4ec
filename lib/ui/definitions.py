"""What every number means, once. Pages show parts of it, the method page shows all of it.

Formulas in Streamlit's markdown ($...$). x_b and x_f: activations of the base and of the tuned
model at the same token; all means run over held-out tokens, first tokens left out.
"""

from collections.abc import Iterable

from lib.ui.definitions_ablation import ABLATION
from lib.ui.definitions_geometry import GEOMETRY
from lib.ui.definitions_internal import INTERNAL
from lib.ui.definitions_lens import LENS
from lib.ui.definitions_paths import PATHS
from lib.ui.definitions_points import POINTS
from lib.ui.definitions_weights import WEIGHTS

_OTHERS: dict[str, str] = {
    "Stability over seeds": r"""
Crosscoders of one layer are trained again with other seeds (other start, other order of the same
text). Latents of two dictionaries are paired one-to-one by the cosine of their decoders, both sides
as one vector, so that the sum of cosines among pairs of 0.7 or more is largest; **survives 3 of 3
seeds** means that every dictionary has the latent. *Chance* is the best cosine of a random direction
with that many others in as many dimensions, or of the same decoders with shuffled coordinates,
whichever is higher. Method: Paulo & Belrose 2025 (arXiv:2501.16615); the mean best cosine is the MMCS
of Sharkey et al. 2022. A latent that does not return describes this training run, not the model.
""",
    "KL": r"""
$$
\mathrm{KL}_t = \sum_v p_v\,(\ln p_v - \ln q_v)
$$

tuned $p$ against base $q$, next-token distributions on the same context, in **nats**; the mean
over scored tokens. Exact at every token (a sum over the whole vocabulary), never sampled.
*Corpus* = the held-out part of the fine-tuning corpus; *responses* = the same without the prompts of
instructions (all of it for other corpora), its null the whole corpus'; *neutral* = one common text
for all experiments. Reverse KL swaps the roles; Jensen-Shannon is bounded by $\ln 2$. Below three times
the *numerical floor* (the base against itself in another batch shape) a KL counts as 0.
""",
    "Top-token agreement": """
Share of scored tokens at which base and tuned put the same token first; 0 to 1.
""",
    "Perplexity": r"""
$\exp$ of the mean negative log-likelihood per scored token, natural logarithm, fixed window.
""",
    "Intervals": """
95 %, bootstrap over **documents** (never over tokens: tokens of a document are not independent).
They say how far the number would move with other documents of the same kind; they do not contain
the spread over training seeds, nor, for a peak, over which depth is the peak unless that is
said. CKA and the late share leave out blocks of documents instead (delete-a-group jackknife, Kott
2001). Centred and in-sample ratios, norms, cosines, shares of energy and nu are stored without one.
""",
    "Latent classes": r"""
$$
\Delta_{\text{norm}} = \tfrac12\Bigl(1 + \frac{\lVert d_f\rVert - \lVert d_b\rVert}
{\max(\lVert d_f\rVert, \lVert d_b\rVert)}\Bigr)
$$

of a crosscoder latent's two decoder directions (Minder et al. 2025, arXiv:2504.02922): below 0.1
eliminated, to 0.4 suppressed, to 0.6 shared, to 0.9 amplified, above new. *Dead*: fires on fewer
than 10 tokens of all harvested text. A norm alone does not make a latent new;
$\nu^{\epsilon}$ and $\nu^{r}$ (latent scaling, same source) ask whether base needs it too.
""",
    "Share of the difference": r"""
$\mathrm{E}[a^2]\,\lVert d_f - d_b\rVert^2$ of a latent with activation $a$, as a share of the
sum over all latents: how much of the change that the dictionary sees runs through it.
""",
    "Compute": r"""
Fine-tuning FLOP beside the base model's pretraining FLOP ($6ND$, $N$ parameters and $D$ tokens,
from the model's public record; empty when unknown). One third of the original compute is the
value that the European Commission's guidelines for general-purpose models name for
modifications; shown as a line to read against, not as a legal grade.
""",
    "Dictionaries": """
BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): over a batch the k strongest activations per
token, on average, are kept. At least 50 training tokens stand behind each latent; with less text
the dictionary **shrinks**, and the table says what was asked. *Flat*: held-out FVE stopped
rising; the learning rate then decays for a quarter more steps. *Step limit*: it was still rising
when the limit came. Held-out text thus chooses when to stop, and the one threshold per dictionary at
which k latents fire per token; weights never see it. *Dead*: share of latents that had not fired
for a tenth of the planned training tokens when training ended. *Alive*: latents that fire on any
held-out token. On Features a latent is dead if it fires on fewer than 10 tokens of all text. *Asked*:
latents wanted before the dictionary shrank.
""",
}

DEFINITIONS: dict[str, str] = (
    INTERNAL | POINTS | PATHS | ABLATION | LENS | GEOMETRY | WEIGHTS | _OTHERS
)


def chosen(names: Iterable[str]) -> str:
    """The definitions of these names as one markdown text, in the order given.

    Raises:
        KeyError: a name without a definition.
    """
    return "\n\n".join(_entry(name, DEFINITIONS[name].strip()) for name in names)


def _entry(name: str, text: str) -> str:
    """Display mathematics needs a paragraph of its own, or all that follows is read as LaTeX."""
    return f"**{name}.**{chr(10) * 2 if text.startswith('$$') else ' '}{text}"
