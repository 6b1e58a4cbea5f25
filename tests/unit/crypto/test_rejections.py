# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a rejected message costs: lines of log, memory and time, whatever is wrong with it."""

from __future__ import annotations

import base64
import gc
import io
import itertools
import logging
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto
from fedmsg.crypto import _credentials, x509_ng
from tests.certificates import DAY, Bench, Holder, authority, encoded, many_names, with_version
from tests.gnupg import Home

Message = dict[str, Any]
# What may be written for a thousand rejected messages.
LOG_BYTES = 4096


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, by any library, in the form of the default configuration."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)10s %(levelname)7s] %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def signed_by(bench: Bench, message: Message, holder: Holder) -> Message:
    return crypto.sign(message, **{**bench.config, "certname": holder.write(bench.folder)})


BAD: dict[str, Callable[[Bench, Message], Message]] = {
    "altered": lambda bench, m: {**m, "msg": 1},
    "a certificate of an unknown version": lambda bench, m: {
        **m,
        "certificate": encoded(with_version(bench.leaf.pem, 9)),
    },
    "a NaN as its time": lambda bench, m: {**m, "timestamp": float("nan")},
    "a huge time": lambda bench, m: {**m, "timestamp": 10**400},
    "a huge negative time": lambda bench, m: {**m, "timestamp": -(10**400)},
    "a long text as its form": lambda bench, m: {**m, "crypto": "x\x1b\n" * 10_000},
    "a long topic": lambda bench, m: {**m, "topic": "ü\n" * 10_000},
    "a list as its topic": lambda bench, m: {**m, "topic": [1]},
    "a signature of 4 MiB": lambda bench, m: {**m, "signature": "A" * 4 * 1024 * 1024},
    "a certificate of 4 MiB": lambda bench, m: {**m, "certificate": m["certificate"] + "\n" * 4 * 1024 * 1024},
    "a certificate with many names": lambda bench, m: {**m, "certificate": encoded(many_names(20_000))},
    "as many names as there is room for": lambda bench, m: {**m, "certificate": encoded(many_names(1_200))},
    "lone surrogates": lambda bench, m: {**m, "certificate": "\ud800" * 100, "signature": "AAAA"},
    "of a stranger": lambda bench, m: signed_by(bench, m, Holder("stranger\n", authority("Foreign"))),
    "expired": lambda bench, m: signed_by(bench, m, Holder("old", bench.ca, start=-9 * DAY, end=-DAY)),
    "unsigned": lambda bench, m: crypto.strip_credentials(m) | {"crypto": None},
    "no dict": lambda bench, m: [m],  # type: ignore[dict-item, return-value]
}


@pytest.mark.parametrize("which", [*BAD, "all of them in turn"])
def test_rejections_write_little(which: str, bench: Bench, message: Message, log: io.StringIO) -> None:
    signed = crypto.sign(message, **bench.config)
    check = crypto.checker({**bench.config, "max_message_age": 60, "max_seen_ids": 100})
    hostile = [change(bench, signed) for name, change in BAD.items() if which in {name, "all of them in turn"}]
    log.truncate(0)
    log.seek(0)
    for one in itertools.islice(itertools.cycle(hostile), 1000):
        assert not check(one)
    written = log.getvalue()
    assert 0 < len(written.encode()) < LOG_BYTES, written
    assert "Traceback" not in written
    assert all(line.isprintable() for line in written.splitlines())
    assert sum(_credentials.rejections.counts.values()) == 1000
    assert check(signed)


def test_rejections_of_gnupg_write_little(bench: Bench, message: Message, log: io.StringIO) -> None:
    with Home() as home:
        signed = crypto.sign(message, **home.config)
        check = crypto.checker(home.config)
        bad = [{**signed, "msg": 1}, {**signed, "signature": base64.b64encode(b"\xc2\x01\x00" * 500).decode()}]
        for one in bad * 10:
            assert not check(one)
        assert check(signed)
    assert 0 < len(log.getvalue().encode()) < LOG_BYTES / 4


def test_the_unforeseen_is_rejected_without_a_traceback(
    bench: Bench, message: Message, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("unforeseen\n" * 100)

    signed = crypto.sign(message, **bench.config)
    monkeypatch.setattr(x509_ng, "check", fail)
    for _ in range(1000):
        assert not crypto.validate(signed, **bench.config)
    assert 0 < len(log.getvalue()) < LOG_BYTES
    assert "Traceback" not in log.getvalue()
    assert "checking it failed: KeyError" in log.getvalue()


# ---------------------------------------------------------------- memory and time


def cached(bench: Bench) -> int:
    return len(x509_ng._anchors(bench.config)._checked)


def variants(signed: Message) -> Iterator[Message]:
    """Ever new texts of one good certificate, which anybody can make out of a message that he has seen."""
    text = signed["certificate"].replace("\n", "")
    for place in range(1, len(text)):
        yield {**signed, "certificate": f"{text[:place]}\n{text[place:]}"}


def test_a_certificate_is_cached_only_after_a_good_signature(bench: Bench, message: Message) -> None:
    signed = crypto.sign(message, **bench.config)
    for one in itertools.islice(variants({**signed, "msg": "forged"}), 300):
        assert not crypto.validate(one, **bench.config)
    assert cached(bench) == 0
    assert crypto.validate(signed, **bench.config)
    assert cached(bench) == 1
    # A control: these are valid, and are cached.
    for one in itertools.islice(variants(signed), 10):
        assert crypto.validate(one, **bench.config)
    assert cached(bench) == 11


def test_the_cache_of_certificates_is_bounded(bench: Bench, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = crypto.sign(message, **bench.config)
    checked = x509_ng._anchors(bench.config)._checked
    monkeypatch.setattr(checked, "limit", 100_000)
    for one in itertools.islice(variants(signed), 100):
        assert crypto.validate(one, **bench.config)
    assert 10 < len(checked) < 25


@pytest.mark.soak
@pytest.mark.parametrize("signature", [{}, {"signature": "AAAA"}, {"certificate": "%%%"}, {"crypto": "gpg"}])
@pytest.mark.parametrize("authority", ["ours", "strange"])
def test_what_is_rejected_leaves_no_garbage(
    bench: Bench, message: Message, signature: dict[str, str], authority: str
) -> None:
    signed = crypto.sign(message, **bench.config)
    if authority == "strange":
        signed["certificate"] = encoded(many_names(3))
    check = crypto.checker(bench.config)
    forged = {**signed, "msg": "another", **signature}
    assert not check(forged)
    gc.collect()
    gc.disable()
    try:
        assert not check({**forged, "certificate": forged["certificate"] + "\n"})
        # It would be held by a frame that it leads to.
        assert [one for one in gc.get_objects() if isinstance(one, _credentials.Rejected)] == []
    finally:
        gc.enable()


def test_certificate_bombs_take_no_memory_and_hold_up_no_message(
    bench: Bench, message: Message, full_size: bool, tmp_path: Path
) -> None:
    signed = crypto.sign(message, **bench.config)
    check = crypto.checker(bench.config)
    rounds = 2_000 if full_size else 50
    room = "\n" * (4 * 1024 * 1024)
    wide = encoded(many_names(1_200))
    bombs: list[Callable[[int], Message]] = [
        lambda n: {**signed, "certificate": signed["certificate"] + room + "\n" * n, "msg": n},
        lambda n: {**signed, "signature": signed["signature"] + room + "\n" * n},
        lambda n: {**signed, "certificate": wide + "\n" * n},
    ]
    assert len(wide) < 64 * 1024
    slowest = 0.0
    tracemalloc.start()
    try:
        for bomb in bombs:
            assert not check(bomb(0))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(rounds):
            for bomb in bombs:
                hostile = bomb(number)
                started = time.thread_time()
                assert not check(hostile)
                slowest = max(slowest, time.thread_time() - started)
            del hostile
            assert check(signed)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1024 * 1024
    # Of the processor: each kept a good message waiting for as long, and the first release took 3.5 s.
    assert slowest < 0.5
