"""The arguments of `python -m lib agent`, `label` and `judge`; imports nothing heavy."""

from pathlib import Path
from typing import Any

CONDITIONS = ("lens:0", "lens:5", "blackbox:5")
JUDGED = ("scale", "relevance")
"""Parts of the judge that need no embedding model."""


def add(commands: Any) -> None:
    """Add the subcommands to argparse's."""
    agent = commands.add_parser("agent", help="an agent states the fine-tuning domain (sends data)")
    agent.add_argument(
        "--conditions", nargs="+", default=CONDITIONS, metavar="KIND:N",
        help="lens:N or blackbox:N, N questions to the models (default: lens:0 lens:5 blackbox:5)",
    )  # fmt: skip
    agent.add_argument("--repeats", type=int, default=1, help="runs of each condition")
    agent.add_argument("--grades", type=int, default=5, help="of each statement and grader")
    label = commands.add_parser("label", help="machine labels for features (sends text)")
    label.add_argument("--layer", type=int, help="default: every layer with a crosscoder")
    label.add_argument("--top", type=int, default=10, help="features with most of the difference")
    label.add_argument("--latents", type=int, nargs="+", help="these features in their place")
    judge = commands.add_parser("judge", help="a judge reads the lens' tokens (sends tokens)")
    judge.add_argument(
        "--parts", nargs="+", choices=(*JUDGED, "similarity"),
        help="Patchscope's scale, relevance of the tokens, similarity of steered text "
        "(default: the first two, and with --embeddings all three)",
    )  # fmt: skip
    judge.add_argument("--repeats", type=int, default=3, help="of each choice of a scale")
    judge.add_argument("--embeddings", metavar="MODEL", help="for similarity (sends text)")
    for one in (agent, label, judge):
        one.add_argument("experiment", nargs="+", help="id in the store")
        one.add_argument("--out", type=Path, help="folder of the store (default: precomputed/)")
        one.add_argument("--consent", action="store_true", help="agree that the data is sent")
        one.add_argument("--max-tokens", type=int, default=400_000, help="of the whole command")
        one.add_argument("--max-requests", type=int, default=400, help="of the whole command")
        one.add_argument(
            "--max-seconds",
            type=float,
            default=3600.0,
            help="of the whole command, looked at before each request",
        )
        one.add_argument("--answer-tokens", type=int, default=2000, help="most of one answer")
        one.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer")
