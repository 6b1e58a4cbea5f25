# SPDX-License-Identifier: LGPL-2.1-or-later
"""The certificates of a node of RabbitMQ, made when the tests run."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from cryptography import x509

from fedmsg.testing import free_port
from tests.certificates import Holder

__all__ = ["Authorities"]


class Authorities:
    """An authority with a server and a client, and another one with a client, as files.

    Args:
        folder: Where the files are written.

    Attributes:
        port: Where the node takes encrypted connections.
        settings: The lines of the node's configuration file for that; it asks clients for a certificate, and takes
            them without one.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        own = Holder("Own CA", authority=True, key_number=1)
        other = Holder("Other CA", authority=True, key_number=2)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        elsewhere = x509.SubjectAlternativeName([x509.DNSName("elsewhere.example.org")])
        for name, holder in {
            "own": own,
            "other": other,
            "server": Holder("server", own, key_number=3, extensions=[(address, False)]),
            "client": Holder("client", own, key_number=3, extensions=[(elsewhere, False)]),
            "stranger": Holder("stranger", other, key_number=3, extensions=[(elsewhere, False)]),
        }.items():
            holder.write(folder, name)
        self.settings = "\n".join([
            f"listeners.ssl.1 = 127.0.0.1:{self.port}",
            f"ssl_options.cacertfile = {self.path('own.crt')}",
            f"ssl_options.certfile = {self.path('server.crt')}",
            f"ssl_options.keyfile = {self.path('server.key')}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = false",
        ])  # fmt: skip

    def path(self, name: str) -> str:
        """Return the path of a file, such as ``own.crt``."""
        return str(self._folder / name)
