# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signatures: who sends signs, who listens checks. This file turns both on.

It needs a key, a certificate and the certificate of an authority; ``fedmsg-certs`` makes them,
and docs/howto/signing.rst explains it. What can't be signed or checked is rejected, so do not install
this file before they are there.
"""

from __future__ import annotations

config = {
    # Sign what is sent.
    "sign_messages": True,
    # Show and handle only what is validly signed.
    "validate_signatures": True,
    #
    # How to sign: "x509" is what fedmsg 1.x understands. Where all programs are newer, take
    # "x509-sha256", "ed25519" or "gpg-envelope"; "gpg" signs nothing but the field msg.
    #     "crypto_backend": "x509",
    #
    # Which of these to accept.
    #     "crypto_validate_backends": ["x509"],
    #
    # Where the keys and certificates of this machine are, NAME.key and NAME.crt ...
    #     "ssldir": "/etc/pki/fedmsg",
    #
    # ... and which of them each service signs with: {"bodhi.app1": "bodhi-app1.example.org"}.
    # Commands such as fedmsg-logger are "shell.<host>", the signing relay is "signing_relay".
    #     "certnames": {},
    #
    # Whom to trust: one or several authorities, as the path of a file or an https address. A
    # copy from there is used for so many seconds (0 is 60), the last good one is kept in a file.
    #     "ca_cert_location": "/etc/pki/fedmsg/ca.crt",
    #     "ca_cert_cache": None,
    #     "ca_cert_cache_expiry": 0,
    #
    # What these authorities have revoked; None: revocation is not checked.
    #     "crl_location": None,
    #     "crl_cache": None,
    #     "crl_cache_expiry": 3600,
    #
    # True accepts certificates that an authority signed with SHA-1, as old ones did.
    #     "allow_sha1_certificates": False,
    #
    # Who may send under which topic, by the names in their certificates:
    # {"org.example.prod.bodhi.update": ["bodhi-app1.example.org"]}. True rejects other topics.
    #     "routing_policy": {},
    #     "routing_nitpicky": False,
    #
    # Reject what was signed more than so many seconds ago, and what comes a second time among so
    # many messages. 0 checks neither.
    #     "max_message_age": 0,
    #     "max_seen_ids": 0,
    #
    # For the GnuPG backends: the home with the keyring, and the fingerprint of the key to sign
    # with, for all hosts or for each by its short name.
    #     "gpg_home": None,
    #     "gpg_signing_key": None,
    #     "gpg_keys": {},
}
