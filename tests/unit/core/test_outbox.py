"""What an answer means for a message, when it is tried again, and what a message can contain."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.core.outbox import FIRST_WAIT, MAX_WAIT, Message, attempt_of, key_of, storable, wait_after

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((200, 201, 202, 204), "sent"),
        ((408, 425, 429, 500, 502, 503, 504, 599), "later"),
        ((301, 302, 307, 400, 401, 403, 404, 410, 413, 422), "never"),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], outcome: str) -> None:
    for status in statuses:
        attempt = attempt_of(status, {}, NOW)
        assert attempt.outcome == outcome
        assert attempt.reason == ("" if outcome == "sent" else f"answered {status}")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "Sun, 01 Mar 2026 08:05:00 GMT"}, 300),
        # the receiver's clock is an hour ahead
        ({"Retry-After": "Sun, 01 Mar 2026 09:05:00 GMT", "Date": "Sun, 01 Mar 2026 09:00:00 GMT"}, 300),
        ({"Retry-After": "Sun, 01 Mar 2026 07:00:00 GMT"}, 0),
        ({"Retry-After": "Sunday, 01-Mar-26 08:05:00 GMT"}, 300),  # as old servers write it
        ({"Retry-After": "9" * 400}, 10**8),
        *(({"Retry-After": text}, None) for text in ("", "soon", "-5", "1.5", "²", "Sun, 99 Mar 2026 08:05:00 GMT")),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: dict[str, str], seconds: int | None) -> None:
    wait = None if seconds is None else timedelta(seconds=seconds)
    for status in (429, 503):
        assert attempt_of(status, headers, NOW).asked_wait == wait


def test_each_wait_is_twice_as_long_with_jitter_up_to_an_hour() -> None:
    for attempts, longest in ((1, FIRST_WAIT), (2, 2 * FIRST_WAIT), (5, 16 * FIRST_WAIT), (7, MAX_WAIT)):
        waits = {wait_after(attempts) for _ in range(100)}
        assert len(waits) > 50, "without jitter, all senders come back at the same moment"
        assert longest / 2 <= min(waits) and max(waits) <= longest
    assert wait_after(10_000) <= MAX_WAIT


def test_a_wait_is_never_shorter_than_the_receiver_asked() -> None:
    for asked in (timedelta(seconds=90), timedelta(hours=5)):
        assert asked <= wait_after(1, asked) <= asked + timedelta(seconds=1)
    assert wait_after(3, timedelta(seconds=1)) >= 2 * FIRST_WAIT


def test_a_key_names_a_message_for_good_and_fits_into_a_header() -> None:
    assert key_of("alerts", "ferries", "2026-03-01") == key_of("alerts", "ferries", "2026-03-01")
    different = [("a", "bc"), ("ab", "c"), ("ab", "c", ""), ("AB", "c"), ("änd", "\n"), ('ab", "c',)]
    assert len({key_of("alerts", *parts) for parts in different}) == len(different)
    assert all(key_of("alerts", *parts).isascii() for parts in different)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("late & <late> ä 😀", "late & <late> ä 😀"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
    ],
)
def test_a_text_is_stored_whatever_it_contains(text: str, stored: str) -> None:
    assert storable(text) == stored
    about: dict[str, Any] = {"kind": "task_failed", "subject": text, "run_id": text}
    message = Message.of_text(text, 1, **about)
    assert (message.payload, message.subject, message.run_id) == ({"text": stored}, stored, stored)


def test_a_text_that_a_receiver_would_refuse_for_its_length_is_cut() -> None:
    message = Message.of_text("x" * 3_000_000, "a", kind="alerts", subject="s", run_id="r")
    assert message.payload == {"text": "x" * 20_000 + " …"}
