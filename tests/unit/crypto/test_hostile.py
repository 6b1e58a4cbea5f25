# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hostile messages: checking them never raises, and nothing counts as signed but what was signed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmsg import crypto, encoding
from tests.certificates import Bench, Holder

SHORT, FULL = 30_000, 1_000_000

KEYS = ["topic", "msg", "timestamp", "msg_id", "i", "username", "crypto", "signature", "certificate", "headers",
        "seq_id", "source_name", "source_version"]  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FORMS = ["x509", "x509-sha256", "ed25519", "gpg", "gpg-envelope"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(tmp_path_factory.mktemp("ca"))
    Holder("ed.test", made.ca, kind="ed25519").write(made.folder)
    return made


@pytest.fixture(scope="module")
def signed(bench: Bench) -> list[dict[str, Any]]:
    message = {
        "i": 1,
        "msg": {"a": [1, "x", None]},
        "msg_id": "2026-1",
        "timestamp": 1,
        "topic": "a.b",
        "username": "u",
    }
    return [
        crypto.sign(message, **bench.config),
        crypto.sign(message, **{**bench.config, "crypto_backend": "x509-sha256"}),
        crypto.sign(message, **{**bench.config, "crypto_backend": "ed25519", "certname": "ed.test"}),
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(FORMS[:3])),
    drop=st.sets(st.sampled_from(KEYS)),
)
def test_any_value_anywhere(
    bench: Bench, signed: list[dict[str, Any]], changes: dict[str, Any], drop: set[str]
) -> None:
    for one in signed:
        hostile = {key: value for key, value in {**one, **changes}.items() if key not in drop}
        assert not crypto.validate(hostile, **bench.config) or same(hostile, one)
        assert crypto.validate(one, **bench.config)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(what=JSON)
def test_anything_at_all(bench: Bench, what: Any) -> None:
    assert crypto.validate(what, **bench.config) is False


def content(certificate: str) -> bytes | None:
    """What an authority signed of a certificate: of the forms around it, its signature's included, there are many."""
    try:
        pem = base64.b64decode(certificate, validate=False)
        return x509.load_pem_x509_certificate(pem).tbs_certificate_bytes
    except (ValueError, CryptographyDeprecationWarning):
        return None


def same(hostile: Any, one: dict[str, Any]) -> bool:
    """Whether a message says the same as the signed one, so that it has every right to be valid."""
    try:
        credentials = [hostile[key] for key in ("signature", "certificate")]
    except (KeyError, TypeError):
        return False
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in credentials]
    if not all(isinstance(text, str) for text in texts) or hostile.get("crypto") is None:
        return False
    if texts[0].replace("\n", "") != one["signature"].replace("\n", "") or content(texts[1]) != content(
        one["certificate"]
    ):
        return False
    try:
        return encoding.dumps(crypto.strip_credentials(hostile)) == encoding.dumps(crypto.strip_credentials(one))
    except (TypeError, ValueError):
        return False


# ---------------------------------------------------------------- mutations of the bytes on the wire

TOKENS = [
    b"null",
    b"-1",
    b"1e999",
    b"{}",
    b"[]",
    b'""',
    b"NaN",
    b'"gpg"',
    b'"x509-sha256"',
    b"\\u0000",
    b"\\n",
    b"=",
    b"A" * 80,
]


def mutations(body: bytes, chance: random.Random) -> Iterator[bytes]:
    """Give ever new bodies that are a few steps away from a valid one."""
    while True:
        made = bytearray(body)
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            at, kind = chance.randrange(len(made) + 1), chance.randrange(6)
            if kind == 0 and at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del made[at : at + chance.choice([1, 4, 100])]
            elif kind == 2:
                made[at:at] = chance.choice(TOKENS)
            elif kind == 3:
                start = chance.randrange(len(made) + 1)
                made[at:at] = made[start : start + chance.choice([1, 20, 200])]
            elif kind == 4 and at < len(made):
                made[at] = chance.randrange(256)
            else:
                made[at : at + 4] = chance.choice(TOKENS)
        yield bytes(made)


def deep_mutations(message: dict[str, Any], chance: random.Random) -> Iterator[bytes]:
    """The same inside of certificate and signature, below their base64."""
    for key in ("certificate", "signature"):
        raw = base64.b64decode(message[key])
        pem = key == "certificate"
        inner = base64.b64decode(b"".join(raw.splitlines()[1:-1])) if pem else raw
        for made in mutations(inner, chance):
            text = base64.encodebytes(made)
            if pem:
                block = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
                text = base64.encodebytes(block)
            yield encoding.dumps({**message, key: text.decode()}).encode()
            if chance.random() < 0.01:
                break


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("which", ["the body", "below base64"])
def test_mutations(which: str, bench: Bench, signed: list[dict[str, Any]], full_size: bool) -> None:
    seed = random.randrange(2**32) if full_size else 7
    chance, rounds = random.Random(seed), (FULL if full_size else SHORT) // 2
    check: Callable[..., bool] = crypto.checker(bench.config)
    bodies = [encoding.dumps(one).encode() for one in signed]
    done = parsed = 0
    while done < rounds:
        number = chance.randrange(len(signed))
        source = mutations(bodies[number], chance) if which == "the body" else deep_mutations(signed[number], chance)
        for body, _ in zip(source, range(500), strict=False):
            done += 1
            try:
                hostile = json.loads(body)
            except ValueError:
                continue
            parsed += 1
            assert not check(hostile) or any(same(hostile, one) for one in signed), (seed, body)
    assert parsed > rounds / 20


def test_nothing_that_was_checked_is_kept_for_ever(bench: Bench, signed: list[dict[str, Any]], tmp_path: Path) -> None:
    check = crypto.checker(bench.config)
    kept = crypto.x509_ng._anchors(bench.config)._checked
    before = len(kept)
    for number in range(200):
        check({**signed[0], "certificate": base64.b64encode(b"x%d" % number).decode()})
    assert len(kept) == before
