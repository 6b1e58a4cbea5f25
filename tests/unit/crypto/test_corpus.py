# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages that fedmsg 1.1.7 has signed: a change of the canonical form can't slip through.

The files in ``corpus`` were made once, by certificates that are valid until 2076, whose keys
are gone: a message in them can't be made anew, only read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmsg import crypto, encoding

CORPUS = Path(__file__).with_name("corpus")
CONFIG: dict[str, Any] = {
    "ca_cert_location": str(CORPUS / "ca.crt"),
    "crl_location": str(CORPUS / "crl.pem"),
    "crypto_validate_backends": ["x509"],
}


def lines(name: str) -> list[str]:
    return (CORPUS / name).read_text(encoding="ascii").splitlines()


def test_there_are_some() -> None:
    assert len(lines("valid.jsonl")) == 12


@pytest.mark.parametrize("line", lines("valid.jsonl"))
@pytest.mark.parametrize("load", [json.loads, encoding.loads])
def test_valid(line: str, load: Any) -> None:
    message = load(line)
    assert crypto.validate_signed_by(message, "shell.corpus", **CONFIG)
    assert not crypto.validate({**message, "i": message["i"] + 1}, **CONFIG)


@pytest.mark.parametrize("line", lines("revoked.jsonl"))
def test_revoked(line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not crypto.validate(json.loads(line), **CONFIG)
    assert "'gone.corpus' is revoked" in caplog.text
    assert crypto.validate(json.loads(line), **{**CONFIG, "crl_location": None})
