# SPDX-License-Identifier: LGPL-2.1-or-later
"""What would keep messages from being signed or checked: looked at before a start, by ``fedmsg-config --check``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import fedmsg.crypto
from fedmsg._util import plugins
from fedmsg.config.settings import Problem, of
from fedmsg.crypto import utils
from fedmsg.exceptions import FedmsgError

__all__ = ["problems"]


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with keys, certificates, authorities and lists of revoked certificates."""
    view = of(config)
    if view.validate_signatures:
        try:
            fedmsg.crypto.checker(config)
        except FedmsgError as error:
            yield Problem("validate_signatures", str(error))
        else:
            yield from _out_of_date(config)
    if view.sign_messages:
        yield from _signing(config)


def _signing(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Load the key and sign once, as each publisher does first."""
    view = of(config)
    if fedmsg.crypto.uses_gnupg(config):
        keys = dict.fromkeys([view.gpg_signing_key] if view.gpg_signing_key else view.gpg_keys.values())
        signers = [("gpg_signing_key", {"gpg_signing_key": key}) for key in keys]
        missing = Problem("gpg_signing_key", "sign_messages is True and no key is named; set it to a fingerprint")
    else:
        if not os.path.isdir(view.ssldir):
            yield Problem("ssldir", f"{view.ssldir!r} is not a folder; name the one with the keys and certificates")
            return
        signers = [(f"certnames[{name!r}]", {"certname": cert}) for name, cert in view.certnames.items()]
        text = "it is empty and sign_messages is True; write {'shell.<host>': '<name of the .key and .crt files>'}"
        missing = Problem("certnames", text)
    if not signers:
        yield missing
    for key, own in signers:
        try:
            fedmsg.crypto.Signer({**config, "ssldir": view.ssldir, **own})
        except FedmsgError as error:
            yield Problem(key, str(error))


def _out_of_date(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find authorities and lists of revoked certificates whose time is over: with them nothing is valid."""
    view, now = of(config), time.time()
    if set(view.crypto_validate_backends) <= {"gpg", "gpg-envelope"}:
        return
    library = plugins.lazy("x509")
    ca, crl = utils.load_certificates(view.ca_cert_location, view.crl_location)
    if all(one.not_after < now for one in library.load_certificates(ca)):
        text = f"every certificate in {view.ca_cert_location} has expired; get the new one from the authority"
        yield Problem("ca_cert_location", text, stops=False)
    lists = [] if crl is None else library.load_crls(crl)
    if crl is not None and not lists:
        yield Problem("crl_location", f"{view.crl_location} has no list in it; fedmsg-certs crl makes one", stops=False)
    if any(one.next_update < now for one in lists):
        text = f"a list in {view.crl_location} has expired, and messages of its authority are rejected; renew it"
        yield Problem("crl_location", f"{text} (fedmsg-certs crl)", stops=False)
