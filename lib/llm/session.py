"""One command at the endpoint: what it will send and may cost, the consent, what it did cost."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from lib.llm import transcripts
from lib.llm.budget import Budget, Limits
from lib.llm.desk import Desk
from lib.llm.endpoint import Endpoint
from lib.llm.forecast import Forecast
from lib.llm.settings import (
    Part,
    Purpose,
    consent_id,
    consent_text,
    from_environment,
    require_consent,
)


@contextmanager
def endpoint_for(
    chosen: argparse.Namespace, purpose: Purpose, cost: Forecast, parts: Sequence[Part] = ()
) -> Iterator[Endpoint]:
    """Say what will be sent and what it may cost, take the consent, and say what it did cost."""

    settings = from_environment()._replace(embedder=getattr(chosen, "embeddings", None) or "")
    limits = Limits(chosen.max_tokens, chosen.max_requests, chosen.max_seconds)
    cost.check(limits)
    say(f"{cost.runs} runs, {cost.told()} without repairs; what is stored is not asked again.")
    if not chosen.consent:
        require_consent("", purpose, settings, parts)
    say(consent_text(purpose, settings, parts))
    budget = Budget(limits)
    with closing(Endpoint(settings, budget, timeout=chosen.timeout)) as endpoint:
        try:
            yield endpoint
        finally:
            spent = budget.spent
            rough = f" ({spent.estimated:,} of them estimated)" if spent.estimated else ""
            say(
                f"spent: {spent.tokens:,} tokens{rough}, {spent.requests:,} requests, "
                f"{spent.seconds:.0f} s"
            )


@contextmanager
def desk_for(
    chosen: argparse.Namespace,
    purpose: Purpose,
    experiment_id: str,
    endpoint: Endpoint,
    parts: Sequence[Part] = (),
) -> Iterator[Desk]:
    """The transcript of one experiment, to which the consent is written first."""

    with transcripts.opened(transcripts.file_of(purpose, experiment_id)) as transcript:
        agreed = consent_id(purpose, endpoint.settings, parts)
        transcript.add("consent", agreed, text=consent_text(purpose, endpoint.settings, parts))
        yield Desk(endpoint, transcript, chosen.answer_tokens)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
