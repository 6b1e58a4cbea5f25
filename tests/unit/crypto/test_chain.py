# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which certificates are trusted, and which are not, each with its reason in the log."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes

from fedmsg import crypto
from tests.certificates import DAY, MD5, SHA1, Bench, Holder, authority, put, unknown, usage


class Case(NamedTuple):
    """A CA file, a CRL file if there is one, and who signs."""

    ca: str
    leaf: Holder
    crl: str | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012 never changed


def tower(intermediates: int, **top: Any) -> tuple[list[Holder], Holder]:
    """Give an authority, so many below it, and a leaf at the end."""
    chain = [authority(**top)]
    for number in range(intermediates):
        chain.append(Holder(f"Test CA {number}", chain[-1], authority=True))
    return chain, Holder("shell.test", chain[-1])


def pems(holders: list[Holder]) -> str:
    return "".join(holder.pem for holder in holders)


def of_tower(intermediates: int, *, lists: int | None = None, **top: Any) -> Case:
    chain, leaf = tower(intermediates, **top)
    crl = None if lists is None else "".join(holder.crl() for holder in chain[:lists])
    return Case(pems(chain), leaf, crl)


def simple(leaf: dict[str, Any] | None = None, **top: Any) -> Case:
    ca = authority(**top)
    return Case(ca.pem, Holder("shell.test", ca, **(leaf or {})))


def with_crl(**how: Any) -> Case:
    ca = authority()
    return Case(ca.pem, Holder("shell.test", ca), ca.crl(**how))


def second_of_two_lists() -> Case:
    ca = authority()
    return Case(ca.pem, Holder("shell.test", ca), ca.crl(start=-9 * DAY, end=-DAY) + ca.crl())


def revoked() -> Case:
    ca = authority()
    leaf = Holder("shell.test", ca)
    return Case(ca.pem, leaf, ca.crl(Holder("other", ca), leaf))


def revoked_intermediate() -> Case:
    chain, leaf = tower(1)
    return Case(pems(chain), leaf, chain[0].crl(chain[1]) + chain[1].crl())


def crl_of_another_key() -> Case:
    ca = authority()
    return Case(ca.pem, Holder("shell.test", ca), ca.crl(signed_by=authority("Another")))


def crl_by_one_who_may_not() -> Case:
    ca = authority(extensions=[usage(key_cert_sign=True)])
    return Case(ca.pem, Holder("shell.test", ca), ca.crl())


def same_name_other_key() -> Case:
    trusted, forger = authority(key_number=1), authority(key_number=2)
    return Case(trusted.pem, Holder("shell.test", forger))


def two_with_one_name() -> Case:
    old, new = authority(key_number=1), authority(key_number=2)
    return Case(old.pem + new.pem, Holder("shell.test", new))


def issued_by_a_leaf() -> Case:
    ca = authority()
    leaf = Holder("shell.test", ca)
    return Case(ca.pem + leaf.pem, Holder("app.test", leaf))


def intermediate(**how: Any) -> Case:
    ca = authority()
    middle = Holder("Middle", ca, authority=True, **how)
    return Case(ca.pem + middle.pem, Holder("shell.test", middle))


def anchor_signed_by_another() -> Case:
    # Its own signature is not looked at: that it stands in the file is what it is trusted for.
    ca = authority(issuer_key=authority("Another").key)
    return Case(ca.pem, Holder("shell.test", ca))


GOOD: dict[str, Callable[[], Case]] = {
    "a bare leaf": simple,
    "a leaf with usual extensions": lambda: simple({"extensions": [usage(digital_signature=True)], "authority": False}),
    "a leaf for content commitment": lambda: simple({"extensions": [usage(content_commitment=True)]}),
    "a leaf with an unknown extension that is not critical": lambda: simple({"extensions": [unknown(critical=False)]}),
    "an intermediate": lambda: of_tower(1),
    "four intermediates": lambda: of_tower(4),
    "a path as long as is allowed": lambda: of_tower(2, path_length=2),
    "text around the blocks": lambda: simple()._replace(ca=f"Subject: CN=Test CA\n{simple().ca}\nmore\n"),
    "a second authority of the same name": two_with_one_name,
    "an anchor that another key has signed": anchor_signed_by_another,
    "an elliptic curve authority": lambda: simple(kind="ec", key_number=77),
    "an Ed25519 authority": lambda: simple(kind="ed25519", key_number=78),
    "an anchor signed with SHA-1": lambda: simple(digest=SHA1),
    "a leaf signed with SHA-1, allowed": lambda: simple({"digest": SHA1})._replace(
        settings={"allow_sha1_certificates": True}
    ),
    "a leaf signed with SHA-512": lambda: simple({"digest": hashes.SHA512()}),
    "a short key": lambda: simple({"kind": "rsa1024"}),
    "an authority with a key usage": lambda: simple(extensions=[usage(key_cert_sign=True, crl_sign=True)]),
    "a list of revoked ones": lambda: of_tower(0, lists=1),
    "an expired list beside a current one": second_of_two_lists,
    "a list for each of two authorities": lambda: of_tower(1, lists=2),
    "a CRL signed with SHA-1, allowed": lambda: with_crl(digest=SHA1)._replace(
        settings={"allow_sha1_certificates": True}
    ),
}

BAD: dict[str, tuple[Callable[[], Case], str]] = {
    "a foreign one": (lambda: Case(authority("Ours").pem, Holder("shell.test", authority("Theirs"))), "none of the"),
    "one that issued itself": (lambda: Case(authority("Ours").pem, Holder("shell.test")), "none of the configured"),
    "the same name, another key": (same_name_other_key, "was not signed by the authority that it names"),
    "issued by a leaf": (issued_by_a_leaf, "may not issue"),
    "five intermediates": (lambda: of_tower(5), "more than 4"),
    "a longer path than is allowed": (lambda: of_tower(2, path_length=1), "does not allow so many"),
    "no CA:TRUE": (lambda: Case(Holder("CA").pem, Holder("shell.test", Holder("CA"))), "may not issue"),
    "a key usage without keyCertSign": (lambda: simple(extensions=[usage(crl_sign=True)]), "may not issue"),
    "expired": (lambda: simple({"start": -9 * DAY, "end": -DAY}), "'shell.test' has expired"),
    "not valid yet": (lambda: simple({"start": DAY}), "'shell.test' is not valid yet"),
    "an expired authority": (lambda: simple(start=-9 * DAY, end=-DAY), "'Test CA' has expired"),
    "an authority that is not valid yet": (lambda: simple(start=DAY), "'Test CA' is not valid yet"),
    "an expired intermediate": (lambda: intermediate(start=-9 * DAY, end=-DAY), "'Middle' has expired"),
    "an unknown critical extension": (lambda: simple({"extensions": [unknown(critical=True)]}), "1.3.6.1.4.1.99999.1"),
    "an authority with one": (lambda: simple(extensions=[unknown(critical=True)]), "1.3.6.1.4.1.99999.1"),
    "an intermediate with one": (lambda: intermediate(extensions=[unknown(critical=True)]), "1.3.6.1.4.1.99999.1"),
    "signed with SHA-1": (lambda: simple({"digest": SHA1}), "allow_sha1_certificates"),
    "signed with MD5": (
        lambda: simple({"digest": MD5})._replace(settings={"allow_sha1_certificates": True}),
        "signed with md5",
    ),
    "an intermediate signed with SHA-1": (lambda: intermediate(digest=SHA1), "allow_sha1_certificates"),
    "no common name": (lambda: Case(authority().pem, Holder((), authority())), "no common name"),
    "two common names": (lambda: Case(authority().pem, Holder(("a", "b"), authority())), "or several"),
    "revoked": (revoked, "'shell.test' is revoked"),
    "a revoked intermediate": (revoked_intermediate, "'Test CA 0' is revoked"),
    "no list for the intermediate": (lambda: of_tower(1, lists=1), "no list of revoked certificates (CRL) of"),
    "an empty file of lists": (lambda: of_tower(0, lists=0), "no list of revoked certificates"),
    "an expired list": (lambda: with_crl(start=-9 * DAY, end=-DAY), "CRL of the certificate of 'Test CA' has expired"),
    "a list that is not valid yet": (lambda: with_crl(start=DAY), "is not valid yet"),
    "a list of another key": (crl_of_another_key, "was not signed by it"),
    "a list with a critical extension": (lambda: with_crl(extensions=[unknown(critical=True)]), "critical extension"),
    "a list signed with SHA-1": (lambda: with_crl(digest=SHA1), "signed with sha1"),
    "a list by one who may not": (crl_by_one_who_may_not, "was not signed by it"),
    "an elliptic curve key in the leaf": (
        lambda: Case(authority().pem, Holder("shell.test", authority(), kind="rsa", key_number=5), None, {"ec": True}),
        "no RSA key",
    ),
    "a key usage without digitalSignature": (
        lambda: simple({"extensions": [usage(key_encipherment=True, key_cert_sign=True)]}),
        "does not include digital",
    ),
    "no authority in the file": (lambda: Case("nothing", Holder("shell.test", authority())), "no certificate of an"),
}


def answer(case: Case, folder: Path, message: dict[str, Any]) -> bool:
    """Sign with the leaf's key, show its certificate and let it be checked."""
    config: dict[str, Any] = {
        "ssldir": str(folder),
        "certname": case.leaf.write(folder, "leaf"),
        "ca_cert_location": str(put(folder / "ca.crt", case.ca)),
        "crl_location": None if case.crl is None else str(put(folder / "crl.pem", case.crl)),
        **case.settings,
    }
    signed = crypto.sign(message, **config)
    if case.settings.get("ec"):
        signed["certificate"] = encoded(Holder("shell.test", authority(), kind="ec", key_number=6).pem)
    return crypto.validate(signed, **config)


def encoded(pem: str) -> str:
    return base64.encodebytes(pem.encode()).decode()


@pytest.mark.parametrize("which", GOOD)
def test_good(which: str, tmp_path: Path, message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert answer(GOOD[which](), tmp_path, message), caplog.text


@pytest.mark.parametrize("which", BAD)
def test_bad(which: str, tmp_path: Path, message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    make, reason = BAD[which]
    assert answer(make(), tmp_path, message) is False
    assert reason in caplog.text


def test_a_short_key_is_told_of_once(tmp_path: Path, message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        ca = authority()
        assert answer(Case(ca.pem, Holder("short.test", ca, kind="rsa1024")), tmp_path, message)
    assert caplog.text.count("has only 1024 bits") == 1


def test_what_was_checked_is_remembered_no_longer_than_it_holds(
    bench: Bench, message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = crypto.sign(message, **bench.config)
    assert crypto.validate(signed, **bench.config)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 31 * 86400)
    assert not crypto.validate(signed, **bench.config)  # the CRL has expired
    monkeypatch.undo()
    assert crypto.validate(signed, **bench.config)
