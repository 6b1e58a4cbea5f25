# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of signatures and of CURVE."""

from __future__ import annotations

from fedmsg.config.settings.kinds import BOOLEAN, INTEGER, MAPPING, POLICY, TEXT, TEXTS
from fedmsg.config.settings.setting import View, setting

__all__ = ["CryptoSettings"]


class CryptoSettings(View):
    """How messages are signed and checked, and connections encrypted."""

    # fmt: off
    sign_messages = setting(BOOLEAN, False, "Whether messages are signed when they are sent.", "ssl",
        check="fedmsg.crypto.preflight:problems")
    validate_signatures = setting(BOOLEAN, False, "Whether messages are checked when they arrive.", "ssl",
        check="fedmsg.crypto.preflight:problems",
        own_conf_default=True)
    crypto_backend = setting(TEXT, "x509", "How messages are signed.", "ssl")
    crypto_validate_backends = setting(TEXTS, ["x509"], "Which ways of signing are accepted.", "ssl")
    ssldir = setting(TEXT, "/etc/pki/fedmsg", "The folder with the keys and certificates of this machine.", "ssl")
    crl_location = setting(TEXT, None, "A file or https address with the lists of revoked certificates.", "ssl")
    crl_cache = setting(TEXT, None, "A file that keeps the last good copy of crl_location.", "ssl")
    crl_cache_expiry = setting(INTEGER, 3600, "How long such a copy is used before it is fetched again.", "ssl",
        unit="seconds")
    ca_cert_location = setting(TEXT, "/etc/pki/fedmsg/ca.crt",
        "A file or https address with the certificates of the authorities to trust.", "ssl")
    ca_cert_cache = setting(TEXT, None, "A file that keeps the last good copy of ca_cert_location.", "ssl")
    ca_cert_cache_expiry = setting(INTEGER, 0, "How long such a copy is used before it is fetched again; 0 is 60.",
        "ssl", unit="seconds")
    certnames = setting(MAPPING, {}, "Which certificate each service of this machine signs with.", "ssl")
    routing_policy = setting(POLICY, {}, "Which certificates may sign each topic.", "ssl")
    routing_nitpicky = setting(BOOLEAN, False, "Whether a topic that is not in routing_policy is rejected.", "ssl")
    allow_sha1_certificates = setting(BOOLEAN, False,
        "Whether certificates and CRLs that an authority signed with SHA-1 are accepted.", "ssl", in_conf=False)
    max_message_age = setting(INTEGER, 0, "How far the time of a signed message may be from now; 0 sets no limit.",
        "ssl", unit="seconds", in_conf=False)
    max_seen_ids = setting(INTEGER, 0,
        "How many checked messages a receiver remembers, to reject one that comes again.", "ssl", unit="messages",
        in_conf=False)
    gpg_home = setting(TEXT, None, "The home of GnuPG with the keyring for the backends gpg and gpg-envelope.", "ssl",
        in_conf=False)
    gpg_signing_key = setting(TEXT, None, "The fingerprint of the GnuPG key to sign with.", "ssl", in_conf=False)
    gpg_keys = setting(MAPPING, {}, "The same for each host: short host names and fingerprints.", "ssl", in_conf=False)
    curve_key = setting(TEXT, None, "The file with this program's own CURVE key pair, NAME.key_secret.", "curve",
        in_conf=False)
    curve_servers = setting(MAPPING, {},
        "The files with the CURVE public keys of servers, by their names in endpoints or relay_inbound.", "curve",
        in_conf=False)
    curve_publishers = setting(TEXT, None,
        "The folder with the CURVE public keys of those who may publish through the relay.", "curve", in_conf=False)
    curve_subscribers = setting(TEXT, None,
        "The folder with the CURVE public keys of those who may subscribe to the relay.", "curve", in_conf=False)
