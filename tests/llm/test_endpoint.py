"""The client against a real server that answers well, badly, late, half or not at all."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest

from lib.llm import failures, settings
from lib.llm.budget import Budget, BudgetSpent, Limits, estimate
from lib.llm.endpoint import Endpoint
from lib.llm.failures import EndpointError
from lib.llm.settings import LLMError, Settings
from tests.llm.scripted import KEY, Reply, answer, failing, serving

HELLO = [{"role": "user", "content": "Hello"}]
LIMITS = Limits()
CUT = b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}'
GOOD = answer("well").body


def ask(script, *, limits=LIMITS, timeout=5.0, key=KEY, pauses=None, **settings_of_ask):
    """(answer or error, what the server was asked, the budget)."""
    waited = [] if pauses is None else pauses
    with serving(script) as service:
        budget = Budget(limits)
        where = Settings(f"{service.url}/chat/completions", "m", ("m",), key)
        endpoint = Endpoint(where, budget, timeout=timeout, sleep=waited.append)
        try:
            found = endpoint.ask(
                HELLO, **{"model": "m", "temperature": 1.0, "seed": 3, "most": 20} | settings_of_ask
            )
        except LLMError as problem:
            found = problem
        finally:
            endpoint.close()
    return found, service.asked, budget


def test_a_good_answer_and_what_was_sent():
    found, asked, budget = ask(lambda a, n: "well")
    assert (found.text, found.prompt_tokens, found.answer_tokens) == ("well", 50, 10)
    assert not found.estimated and found.attempts == 1
    assert asked[0].path == "/v1/chat/completions"
    assert asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert asked[0].body == {
        "model": "m", "messages": HELLO, "temperature": 1.0, "seed": 3, "max_tokens": 20,
    }  # fmt: skip
    assert (budget.spent.tokens, budget.spent.requests, budget.spent.estimated) == (60, 1, 0)


def test_without_a_key_none_is_sent():
    _, asked, _ = ask(lambda a, n: "well", key="")
    assert "Authorization" not in asked[0].headers


def test_tokens_that_the_service_does_not_count_are_estimated():
    found, _, budget = ask(lambda a, n: answer("x" * 30, usage=False))
    assert found.estimated
    assert budget.spent.estimated == budget.spent.tokens == estimate(HELLO) + 30 // 3 + 9


def test_a_count_that_no_exchange_can_have_is_not_believed():
    reply = json.loads(answer("x").body)
    reply["usage"]["prompt_tokens"] = 10**400
    found, _, budget = ask(lambda a, n: Reply(body=json.dumps(reply).encode()))
    assert found.estimated and budget.spent.tokens < 1000


def test_an_answer_that_is_nested_without_end_is_no_json():
    found, *_ = ask(lambda a, n: Reply(body=b"[" * 200_000))
    assert isinstance(found, EndpointError) and "not JSON" in str(found)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "INSIDEOUT_LLM_KEY"),
        (403, "INSIDEOUT_LLM_KEY"),
        (404, "INSIDEOUT_LLM_URL"),
        (400, "refused as malformed"),
        (418, "unexpected"),
    ],
)
def test_what_no_attempt_mends_is_asked_once(status, told):
    found, asked, budget = ask(lambda a, n: failing(status, "the reason"))
    assert isinstance(found, EndpointError)
    assert told in str(found) and "the reason" in str(found) and str(status) in str(found)
    assert len(asked) == 1 and budget.spent.requests == 1


def test_the_pause_that_the_service_asks_for_is_kept():
    pauses = []
    script = lambda a, n: failing(429, "slow down", Retry_After="7") if n < 2 else "well"  # noqa: E731
    found, asked, budget = ask(script, pauses=pauses)
    assert found.text == "well" and found.attempts == 3
    assert pauses == [7.0, 7.0]
    assert len(asked) == 3 and budget.spent.requests == 3 and budget.spent.tokens == 60


def test_a_pause_past_the_time_limit_ends_the_run_at_once():
    found, asked, _ = ask(
        lambda a, n: failing(429, "quota", Retry_After="3600"), limits=Limits(seconds=60)
    )
    assert isinstance(found, BudgetSpent) and "3600 s" in str(found) and "quota" in str(found)
    assert len(asked) == 1


def test_a_failing_service_is_asked_four_times():
    pauses = []
    found, asked, _ = ask(lambda a, n: failing(500, "broken"), pauses=pauses)
    assert "500: the service failed" in str(found) and "4 attempts" in str(found)
    assert len(asked) == 4 and pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("reply", [Reply(body=GOOD, wait=30), Reply(body=GOOD, drip=0.05)])
def test_a_service_that_is_silent_or_drips_is_cut_off(reply):
    found, asked, budget = ask(lambda a, n: reply, timeout=0.3)
    assert "no whole answer within 0 s" in str(found) and "4 attempts" in str(found)
    assert len(asked) == 4
    most = estimate(HELLO) + 20
    assert budget.spent.estimated == budget.spent.tokens == 4 * most, "it may have been charged"


def test_half_an_answer_is_no_answer():
    half = Reply(body=GOOD[:20], announced=len(GOOD))
    found, asked, _ = ask(lambda a, n: half if n == 0 else "well")
    assert found.text == "well" and len(asked) == 2
    found, _, _ = ask(lambda a, n: half)
    assert "broke off in the middle" in str(found)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>Welcome</html>", "not JSON"),
        (b"[1, 2]", "not JSON"),
        (b'{"error": {"message": "model is loading"}}', "model is loading"),
        (b'{"choices": []}', "holds no text"),
        (CUT, "--answer-tokens"),
        (b'{"choices": [{"message": {"content": 7}}]}', "holds no text"),
    ],
)  # fmt: skip
def test_replies_that_are_none(body, told):
    found, asked, _ = ask(lambda a, n: Reply(body=body))
    assert isinstance(found, EndpointError) and told in str(found) and len(asked) == 1


def test_a_refusal_is_what_the_model_says():
    found, _, _ = ask(lambda a, n: answer(None, refusal="I will not"))
    assert found.text == "I will not"


def test_an_endless_answer_is_refused(monkeypatch):
    monkeypatch.setattr("lib.llm.endpoint.LONGEST", 1000)
    found, _, _ = ask(lambda a, n: answer("x" * 5000))
    assert "over 1,000 bytes" in str(found)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = Settings(f"http://127.0.0.1:{port}/v1/chat/completions", "m", ("m",), KEY)
    with pytest.raises(EndpointError, match=f"127.0.0.1:{port} cannot be reached.*is it running"):
        Endpoint(where, Budget(Limits())).ask(HELLO, model="m", temperature=0.0, seed=0, most=5)


def test_a_redirect_is_not_followed_with_the_key():
    with serving(lambda a, n: "well") as thief:
        there = f"{thief.url}/chat/completions"
        found, _, _ = ask(lambda a, n: Reply(307, b"", {"Location": there}))
    assert "307, a redirect" in str(found) and thief.asked == []


def test_settings_that_a_model_refuses_are_left_out_and_said():
    def script(one, n):
        if "max_tokens" in one.body:
            return failing(400, "Unsupported parameter: 'max_tokens', use 'max_completion_tokens'")
        if "temperature" in one.body:
            return failing(400, "temperature does not support 0.5 with this model")
        return "well"

    found, asked, _ = ask(script, temperature=0.5)
    assert found.text == "well" and found.left_out == ("max_tokens", "temperature")
    assert asked[-1].body["max_completion_tokens"] == 20 and len(asked) == 3


def test_the_key_comes_back_neither_in_answers_nor_in_errors():
    found, _, _ = ask(lambda a, n: a.headers["Authorization"])
    assert found.text == "Bearer [key]"
    long = "x" * 290  # the key would be cut in two where the message ends
    for status in (401, 500):
        found, _, _ = ask(lambda a, n, s=status: failing(s, long + a.headers["Authorization"]))
        assert KEY not in str(found) and KEY[:6] not in str(found)


def test_half_a_surrogate_pair_is_no_text():
    body = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    found, _, _ = ask(lambda a, n: Reply(body=body))
    assert found.text == "a?b"


@pytest.mark.parametrize(
    ("limits", "told"),
    [(Limits(tokens=29), "29 tokens"), (Limits(requests=2), "2 requests")],
)
def test_limits_hold_before_the_request(limits, told):
    found, asked, _ = ask(lambda a, n: failing(500), limits=limits)
    assert isinstance(found, BudgetSpent) and told in str(found)
    assert len(asked) == (0 if limits.tokens == 29 else 2)


def test_time_runs_out():
    now = [0.0]
    budget = Budget(Limits(seconds=10), clock=lambda: now[0])
    budget.admit(1)
    now[0] = 10.5
    with pytest.raises(BudgetSpent, match="10 seconds"):
        budget.admit(1)


def test_retry_after_as_a_date():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    later = (now + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert failures.retry_after(later, now) == 90
    assert failures.retry_after("Thu, 01 Jan 1970 00:00:00 GMT", now) == 0
    assert failures.retry_after("soon") is None and failures.retry_after(None) is None


class TestSettings:
    def given(self, monkeypatch, **values):
        for name in ("URL", "KEY", "MODEL", "GRADER"):
            monkeypatch.delenv(f"INSIDEOUT_LLM_{name}", raising=False)
            if name in values:
                monkeypatch.setenv(f"INSIDEOUT_LLM_{name}", values[name])

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({}, "INSIDEOUT_LLM_URL is not set"),
            ({"URL": "ftp://x/v1"}, "no web address"),
            ({"URL": "http://x:99999/v1"}, "no web address"),
            ({"URL": "http://[::1/v1"}, "INSIDEOUT_LLM_URL is no web address"),
            ({"URL": "http://x/v1\r\nX: y"}, "no web address"),
            ({"URL": "http://a b/v1", "KEY": KEY}, "no web address"),
            ({"URL": "https://u:p@x/v1"}, "no user, password"),
            ({"URL": "https://x/v1?api_key=1"}, "no user, password"),
            ({"URL": "https://x/v1"}, "INSIDEOUT_LLM_MODEL"),
            ({"URL": "https://x/v1", "MODEL": "m", "KEY": "a\nb"}, "line break"),
            ({"URL": "http://x/v1", "MODEL": "m", "KEY": KEY}, "unencrypted"),
        ],
    )
    def test_closed(self, monkeypatch, values, told):
        self.given(monkeypatch, **values)
        assert told in settings.closed()
        with pytest.raises(LLMError) as problem:
            settings.from_environment()
        assert KEY not in str(problem.value) and "a\nb" not in str(problem.value)

    def test_open(self, monkeypatch):
        self.given(monkeypatch, URL="http://localhost:1/v1/", MODEL="m", KEY=KEY, GRADER="g")
        found = settings.from_environment()
        assert found.url == "http://localhost:1/v1/chat/completions"
        assert found.graders == ("m", "g")
        assert KEY not in repr(found) and KEY not in settings.consent_text("agent", found)
        self.given(monkeypatch, URL="https://x/v1/chat/completions", MODEL="m", GRADER="a, b,c")
        assert settings.from_environment().graders == ("a", "b")
        assert settings.from_environment().url == "https://x/v1/chat/completions"

    def test_consent_is_to_one_text_and_one_receiver(self, monkeypatch):
        self.given(monkeypatch, URL="https://x/v1", MODEL="m")
        one = settings.from_environment()
        settings.require_consent(settings.consent_id("agent", one), "agent", one)
        elsewhere = one._replace(url="https://y/v1")
        others = [settings.consent_id("label", one), settings.consent_id("agent", elsewhere)]
        for given in ("", *others):
            with pytest.raises(LLMError, match="nothing was sent"):
                settings.require_consent(given, "agent", one)
        told = settings.consent_text("agent", one)
        for part in ("x", "m", "tokens", "questions to both models", "frequent words"):
            assert part in told
        assert "passages" in settings.consent_text("label", one)
        assert "not encrypted" in settings.consent_text("agent", one._replace(url="http://x/v1"))
