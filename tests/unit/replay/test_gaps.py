# SPDX-License-Identifier: LGPL-2.1-or-later
"""Gaps: the decisions without any socket, and what is passed on in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from fedmsg import encoding
from fedmsg.exceptions import FedmsgError, TransportError
from fedmsg.replay.gaps import GapFiller, check_for_replay
from fedmsg.replay.protocol import NO_MATCH, error_frame
from tests.unit.replay.stores import envelope

Serve = Callable[[dict[str, Any]], "list[bytes] | FedmsgError"]


def numbered(number: int) -> dict[str, Any]:
    return envelope(number, seq_id=number)


def server(first: int = 1, last: int = 10**9, most: int = 10_000) -> Serve:
    """Answer as a server does that has the messages between two numbers."""

    def serve(query: dict[str, Any]) -> list[bytes] | FedmsgError:
        low, high = query["seq_id_range"] if "seq_id_range" in query else [query["seq_id"]] * 2
        low, high = max(low, first), min(high, last)
        if high < low:
            return [error_frame(NO_MATCH)]
        if high - low >= most:
            return [error_frame("too many: ask for less")]
        return [encoding.dumps(numbered(number)).encode() for number in range(low, high + 1)]

    return serve


def no_server(query: dict[str, Any]) -> list[bytes] | FedmsgError:
    raise AssertionError(f"nothing was to be asked: {query}")


def silent(query: dict[str, Any]) -> list[bytes] | FedmsgError:
    return TransportError("no answer within 2 s")


def drive(filler: GapFiller, message: dict[str, Any], serve: Serve = no_server) -> list[Any]:
    """Hand a message in; returns what is passed on."""
    return list(start(filler, message, serve))


def start(filler: GapFiller, message: dict[str, Any], serve: Serve, timeouts: list[float] | None = None) -> Any:
    """Hand a message in; returns an iterator over what is passed on."""

    def ask(name: str, query: dict[str, Any], timeout: float) -> list[bytes]:
        if timeouts is not None:
            timeouts.append(timeout)
        answer = serve(query)
        if isinstance(answer, FedmsgError):
            raise answer
        return answer

    filler._ask = ask
    for service in filler._services.values():
        service._history._ask_instead = ask
    return iter(filler.fill("shop", message))


def numbers(messages: list[Any]) -> list[int]:
    return [message["seq_id"] for message in messages]


@pytest.fixture
def filler() -> GapFiller:
    return GapFiller({}, ["shop"])


def test_in_order_nothing_is_asked(filler: GapFiller) -> None:
    for number in (7, 8, 9):
        assert drive(filler, numbered(number)) == [numbered(number)]
    assert filler.numbers == {"shop": 9}
    assert not filler.counts


def test_what_has_no_number_passes(filler: GapFiller) -> None:
    drive(filler, numbered(7))
    for message in ({}, envelope(1), envelope(1, seq_id="8"), envelope(1, seq_id=True), envelope(1, seq_id=-8)):
        assert drive(filler, message) == [message]
    assert list(filler.fill("other", numbered(1))) == [numbered(1)]
    assert filler.numbers == {"shop": 7}


def test_a_gap_is_filled_in_order(filler: GapFiller) -> None:
    drive(filler, numbered(7))
    assert numbers(drive(filler, numbered(2500), server())) == list(range(8, 2501))
    assert filler.counts == {"asked": 4, "replayed": 2492}


def test_what_comes_late_of_a_filled_gap_is_dropped(filler: GapFiller, caplog: pytest.LogCaptureFixture) -> None:
    drive(filler, numbered(1))
    drive(filler, numbered(10), server())
    assert [drive(filler, numbered(number)) for number in (2, 9, 10)] == [[], [], []]
    assert filler.counts["repeated"] == 3
    assert caplog.records == []


def test_the_number_is_kept_up_to_date_with_each_message(filler: GapFiller) -> None:
    drive(filler, numbered(1))
    passed = start(filler, numbered(10), server())
    assert numbers([next(passed), next(passed)]) == [2, 3]
    passed.close()
    assert filler.numbers == {"shop": 3}


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (silent, "no answer within 2 s"),
        (server(first=105), "it no longer has them"),
        (lambda query: [error_frame("not for you")], "not for you"),
        (lambda query: [error_frame("ask for less")], "ask for less"),
        (lambda query: [b"error: \x1b[2J\n"], r"error: \\x1b[2J\\n"),
        (lambda query: TransportError("x" * 10_000), "xxx"),
    ],
    ids=["silent", "gone", "refusing", "never less", "odd", "long"],
)
def test_a_gap_that_can_not_be_filled_is_one_error(
    filler: GapFiller, serve: Serve, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    drive(filler, numbered(5))
    assert drive(filler, numbered(105), serve) == [numbered(105)]
    assert drive(filler, numbered(106)) == [numbered(106)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("99 messages of shop are lost, of the numbers 6 to 104 ")
    assert reason.replace("\\\\", "\\") in record.getMessage()
    assert len(record.getMessage()) < 500
    assert (filler.counts["lost"], filler.counts["failed"]) == (99, 1)


def test_a_server_that_is_silent_again_and_again_is_waited_for_less(filler: GapFiller) -> None:
    def patience(first: int, serve: Serve) -> float:
        """Return for how long the server may be silent about a gap of two."""
        filler.numbers["shop"] = first
        timeouts: list[float] = []
        list(start(filler, numbered(first + 3), serve, timeouts))
        return round(timeouts[0], 1)

    assert [patience(number, silent) for number in (10, 20, 30)] == [2.0, 1.0, 0.5]
    assert [patience(number, silent) for number in range(40, 90, 10)][-1] == 0.1
    assert [patience(number, server()) for number in (100, 110)] == [0.1, 2.0]


def test_of_a_gap_that_is_gone_in_part_the_rest_comes(filler: GapFiller, caplog: pytest.LogCaptureFixture) -> None:
    drive(filler, numbered(5))
    assert numbers(drive(filler, numbered(20_001), server(first=15_001))) == list(range(15_001, 20_002))
    (record,) = caplog.records
    assert "14995 messages of shop are lost, of the numbers 6 to 20000 " in record.getMessage()


def test_a_server_that_falls_silent_half_way(filler: GapFiller, caplog: pytest.LogCaptureFixture) -> None:
    drive(filler, numbered(0))
    good, left = server(), 3

    def serve(query: dict[str, Any]) -> list[bytes] | FedmsgError:
        nonlocal left
        left -= 1
        return good(query) if left >= 0 else silent(query)

    assert numbers(drive(filler, numbered(5000), serve)) == [*range(1, 2001), 5000]
    assert "2999 messages of shop are lost" in caplog.text


def test_a_number_far_ahead_does_not_cost_many_questions(filler: GapFiller) -> None:
    drive(filler, numbered(5))
    assert numbers(drive(filler, numbered(10**18), server(last=5))) == [10**18]
    assert filler.counts["asked"] == 1


def test_a_server_of_1x_which_refuses_ranges_is_asked_for_lists(filler: GapFiller) -> None:
    asked = []

    def serve(query: dict[str, Any]) -> list[bytes] | FedmsgError:
        asked.append(query)
        if "seq_id_range" in query:
            return [error_frame('Something went wrong when processing the field "seq_id_range"')]
        wanted = query["seq_ids"] if "seq_ids" in query else [query["seq_id"]]
        return [encoding.dumps(numbered(number)).encode() for number in wanted]

    drive(filler, numbered(5))
    assert numbers(drive(filler, numbered(2006), serve)) == list(range(6, 2007))
    assert [sorted(query) for query in asked] == [["seq_id"], ["seq_id_range"]] + [["seq_ids"]] * 2


def test_what_was_not_asked_for_is_refused(filler: GapFiller, caplog: pytest.LogCaptureFixture) -> None:
    bad = [b"nonsense", b"[]", b"{}", encoding.dumps(envelope(4)).encode()]
    bad += [encoding.dumps(numbered(number)).encode() for number in (3, 7, 5, 4, 99, 6)]
    drive(filler, numbered(3))
    bad += [encoding.dumps(numbered(8)).encode()]
    assert numbers(drive(filler, numbered(8), lambda query: bad)) == [7, 8]
    assert filler.counts["lost"] == 3
    assert "rejected a message from the replay server of shop" in caplog.text


def test_what_is_not_valid_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    filler = GapFiller({}, ["shop"], validate=lambda message: message["seq_id"] != 5, signed=False)
    drive(filler, numbered(3))
    assert numbers(drive(filler, numbered(7), server())) == [4, 6, 7]
    assert "invalid message received" in caplog.text
    assert "1 messages of shop are lost, of the numbers 4 to 6 " in caplog.text


# ------------------------------------------------------------------ numbers that are not of the service


def signed(number: int, signer: str, **changes: Any) -> dict[str, Any]:
    """Return a message of a signer."""
    return {**numbered(number), "certificate": signer, "crypto": "x509", "signature": f"{signer}{number}", **changes}


def signing_server(*signers: str) -> Serve:
    """Answer as a server does whose messages come from these signers in turn."""

    def serve(query: dict[str, Any]) -> list[bytes] | FedmsgError:
        low, high = query["seq_id_range"] if "seq_id_range" in query else [query["seq_id"]] * 2
        if low > 1000:
            return [error_frame(NO_MATCH)]
        found = [signed(number, signers[number % len(signers)]) for number in range(low, min(high, 1000) + 1)]
        return [encoding.dumps(message).encode() for message in found]

    return serve


@pytest.mark.parametrize("jump", [10**9, 900, 7])
def test_gap_filler_does_not_follow_a_number_that_the_server_does_not_know(
    filler: GapFiller, jump: int, caplog: pytest.LogCaptureFixture
) -> None:
    drive(filler, numbered(5))
    stray = numbered(jump) | {"msg_id": "stray"}
    assert drive(filler, stray, server(last=5)) == [stray]
    assert filler.numbers == {"shop": 5}
    assert (filler.counts["uncounted"], filler.counts["lost"]) == (1, 0)
    assert "its number does not count" in caplog.text
    assert [drive(filler, numbered(number)) for number in (6, 7, 8)] == [[numbered(n)] for n in (6, 7, 8)]
    # Control: a number that the server knows is followed.
    assert numbers(drive(filler, numbered(100), server(last=100))) == [*range(9, 101)]


def test_gap_filler_passes_real_numbers_after_a_stray_one_while_the_server_is_silent(filler: GapFiller) -> None:
    drive(filler, numbered(5))
    assert numbers(drive(filler, numbered(10**9), silent)) == [10**9]
    assert numbers([one for n in (6, 7, 8) for one in drive(filler, numbered(n), silent)]) == [6, 7, 8]
    assert numbers(drive(filler, numbered(12), server(last=12))) == [9, 10, 11, 12]
    assert filler.counts["repeated"] == 0
    assert drive(filler, numbered(10**9), silent) == []


def test_gap_filler_brings_nothing_twice_after_it_went_back(filler: GapFiller) -> None:
    drive(filler, numbered(5))
    assert numbers([one for n in (10, 11, 12) for one in drive(filler, numbered(n), silent)]) == [10, 11, 12]
    # Now 7 comes after all, by another connection.
    assert numbers(drive(filler, numbered(7), server(last=12))) == [6, 7]
    assert numbers(drive(filler, numbered(13), server(last=13))) == [8, 9, 13]


def test_gap_filler_ties_numbers_to_signers(caplog: pytest.LogCaptureFixture) -> None:
    filler = GapFiller({}, ["shop"], validate=lambda message: True)
    serve = signing_server("ours")
    assert drive(filler, signed(5, "ours"), serve) == [signed(5, "ours")]
    # Another service, validly signed, has the next number, one far ahead, and one from the past.
    for number in (6, 10**9, 3):
        stray = signed(number, "theirs", msg_id="stray")
        assert drive(filler, stray, serve) == [stray]
        assert filler.numbers == {"shop": 5}
    assert filler.counts["asked"] == 2
    assert drive(filler, signed(6, "ours")) == [signed(6, "ours")]
    assert filler.counts["repeated"] == 0


def test_gap_filler_follows_all_signers_of_one_store() -> None:
    filler = GapFiller({}, ["shop"], validate=lambda message: True)
    serve = signing_server("one", "two")
    for number in (5, 6):
        assert len(drive(filler, signed(number, ("one", "two")[number % 2]), serve)) == 1
    assert filler.counts["asked"] == 2
    assert numbers(drive(filler, signed(20, "one"), serve)) == [*range(7, 21)]
    assert drive(filler, signed(21, "two")) == [signed(21, "two")]


def test_gap_filler_believes_the_first_signer_while_the_server_is_silent() -> None:
    filler = GapFiller({}, ["shop"], validate=lambda message: True)
    for number in (5, 6):
        assert len(drive(filler, signed(number, "ours"), silent)) == 1
    assert filler.numbers == {"shop": 6}
    assert len(drive(filler, signed(7, "theirs", msg_id="stray"), silent)) == 1
    assert filler.numbers == {"shop": 6}
    assert drive(filler, signed(7, "ours"), silent) == [signed(7, "ours")]


# ------------------------------------------------------------------ numbers that begin anew


def test_a_store_that_was_made_anew_is_followed(filler: GapFiller, caplog: pytest.LogCaptureFixture) -> None:
    drive(filler, numbered(900))
    anew = server(last=2)
    assert numbers(drive(filler, numbered(2), anew)) == [2]
    assert "have started again from a lower one" in caplog.text
    assert numbers(drive(filler, numbered(3))) == [3]


def test_a_duplicate_is_asked_about_and_dropped_and_not_again_soon(
    filler: GapFiller, caplog: pytest.LogCaptureFixture
) -> None:
    drive(filler, numbered(900))
    assert drive(filler, numbered(2), server()) == []
    assert "dropped as a duplicate" in caplog.text
    assert drive(filler, numbered(3)) == []
    assert drive(filler, numbered(900)) == []
    assert filler.counts["repeated"] == 3


def test_what_a_message_says_is_no_error(filler: GapFiller) -> None:
    drive(filler, numbered(900))
    says = encoding.dumps(envelope(900, seq_id=900, msg=f"error: '{NO_MATCH}'")).encode()
    assert drive(filler, numbered(2), lambda query: [says]) == []
    assert filler.numbers == {"shop": 900}


def test_a_silent_server_says_nothing_about_a_repetition(filler: GapFiller) -> None:
    for number in (899, 900):
        drive(filler, numbered(number))
    assert drive(filler, numbered(2), silent) == []
    assert filler.numbers == {"shop": 900}


@pytest.mark.parametrize("serve", [silent, server(last=9)], ids=["silent", "it has another message"])
@pytest.mark.parametrize("first", [10**9, 8])
def test_gap_filler_does_not_stay_at_a_stray_first_number(filler: GapFiller, first: int, serve: Serve) -> None:
    """The first message of all is from elsewhere: what the service sends is passed on all the same, and once."""
    stray = numbered(first) | {"msg_id": "stray"}
    assert drive(filler, stray) == [stray]
    passed = [one for number in (5, 6, 7, 8) for one in drive(filler, numbered(number), serve)]
    assert passed == [numbered(number) for number in (5, 6, 7, 8)]
    assert numbers(drive(filler, numbered(11), server(last=11))) == [9, 10, 11]
    assert filler.counts["repeated"] == 0
    assert drive(filler, numbered(7)) == []  # the control: this one was handed on


def test_gap_filler_brings_a_first_message_no_second_time(filler: GapFiller) -> None:
    drive(filler, numbered(8))
    assert numbers(drive(filler, numbered(6), silent)) == [6]
    assert numbers(drive(filler, numbered(10), server(last=10))) == [7, 9, 10]


# ------------------------------------------------------------------ check_for_replay, where nothing is asked


@pytest.mark.parametrize(
    ("before", "message", "passed", "after"),
    [
        ({}, numbered(3), True, {}),
        ({"shop": 3}, envelope(1), True, {"shop": 3}),
        ({"shop": -1}, numbered(3), True, {"shop": 3}),
        ({"shop": 3}, numbered(3), False, {"shop": 3}),
        ({"shop": 3}, numbered(1), False, {"shop": 3}),
        ({"shop": 3}, numbered(4), True, {"shop": 4}),
        ({"shop": 3}, {"seq_id": 4}, True, {"shop": 4}),
        ({"shop": 3}, {"topic": "t", "body": numbered(4)}, True, {"shop": 4}),
        ({"shop": 3}, {"topic": "t", "body": numbered(2)}, False, {"shop": 3}),
        ({"shop": 3}, {"topic": "t", "body": "text"}, True, {"shop": 3}),
    ],
)
def test_check_for_replay(before: dict[str, int], message: dict[str, Any], passed: bool, after: dict[str, int]) -> None:
    kept = dict(before)
    assert check_for_replay("shop", kept, message, {}) == ([message] if passed else [])
    assert kept == after


def test_check_for_replay_without_an_address_passes_the_message_on(caplog: pytest.LogCaptureFixture) -> None:
    kept = {"shop": 3}
    assert check_for_replay("shop", kept, numbered(6), {}) == [numbered(6)]
    assert kept == {"shop": 6}
    assert "No appropriate replay endpoint found for shop" in caplog.text
