# SPDX-License-Identifier: LGPL-2.1-or-later
"""What would keep messages from being signed or checked: looked at before a start, by ``fedmsg-config --check``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import fedmsg.crypto
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.config.settings import Problem
from fedmsg.crypto import utils
from fedmsg.exceptions import FedmsgError

__all__ = ["problems"]


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with keys, certificates, authorities and lists of revoked certificates."""
    if settings.get(config, "validate_signatures"):
        try:
            fedmsg.crypto.checker(config)
        except FedmsgError as error:
            yield Problem("validate_signatures", str(error))
        else:
            yield from _out_of_date(config)
    if settings.get(config, "sign_messages"):
        yield from _signing(config)


def _signing(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Load the key and sign once, as each publisher does first."""
    if fedmsg.crypto.uses_gnupg(config):
        only = settings.get(config, "gpg_signing_key")
        keys = dict.fromkeys([only] if only else (settings.get(config, "gpg_keys") or {}).values())
        signers = [("gpg_signing_key", {"gpg_signing_key": key}) for key in keys]
        missing = Problem("gpg_signing_key", "sign_messages is True and no key is named; set it to a fingerprint")
    else:
        ssldir = settings.get(config, "ssldir")
        if not ssldir or not os.path.isdir(ssldir):
            yield Problem("ssldir", f"{ssldir!r} is not a folder; name the one with the keys and certificates")
            return
        names = settings.get(config, "certnames") or {}
        signers = [(f"certnames[{name!r}]", {"ssldir": ssldir, "certname": cert}) for name, cert in names.items()]
        text = "it is empty and sign_messages is True; write {'shell.<host>': '<name of the .key and .crt files>'}"
        missing = Problem("certnames", text)
    if not signers:
        yield missing
    for key, own in signers:
        try:
            fedmsg.crypto.Signer({**config, **own})
        except FedmsgError as error:
            yield Problem(key, str(error))


def _out_of_date(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find authorities and lists of revoked certificates whose time is over: with them nothing is valid."""
    if set(settings.get(config, "crypto_validate_backends") or ()) <= {"gpg", "gpg-envelope"}:
        return
    library, now = plugins.lazy("x509"), time.time()
    ca_location, crl_location = settings.get(config, "ca_cert_location"), settings.get(config, "crl_location")
    ca, crl = utils.load_certificates(ca_location, crl_location)
    if all(one.not_after < now for one in library.load_certificates(ca)):
        text = f"every certificate in {ca_location} has expired; get the new one from the authority"
        yield Problem("ca_cert_location", text, stops=False)
    lists = [] if crl is None else library.load_crls(crl)
    if crl is not None and not lists:
        yield Problem("crl_location", f"{crl_location} has no list in it; fedmsg-certs crl makes one", stops=False)
    if any(one.next_update < now for one in lists):
        text = f"a list in {crl_location} has expired, and messages of its authority are rejected; renew it"
        yield Problem("crl_location", f"{text} (fedmsg-certs crl)", stops=False)
