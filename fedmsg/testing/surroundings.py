# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the code of a consumer finds around it in a test: a configuration, and keys to sign with."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import fedmsg
import fedmsg.config
from fedmsg.crypto.authority import Authority

__all__ = ["configured", "credentials"]

_DAYS = 2.0


@contextlib.contextmanager
def configured(config: Mapping[str, Any], changed: Mapping[str, Any]) -> Iterator[None]:
    """Set the configuration that ``load_config`` and `fedmsg.publish` find, for as long as the block lasts.

    `fedmsg.config.conf` has defaults of its own, and gets what was changed.
    """
    names, conf = vars(fedmsg.config), fedmsg.config.conf
    loaded, values, was_loaded = names["__cache"], dict(conf), conf._is_loaded
    # A context that this thread has opened before is not for the program under test.
    context, fedmsg.__local.__context = getattr(fedmsg.__local, "__context", None), None
    try:
        names["__cache"] = dict(config)
        conf.clear()
        conf.load_config(changed)
        yield
    finally:
        fedmsg.destroy()
        fedmsg.__local.__context = context
        names["__cache"] = loaded
        conf.clear()
        conf.update(values)
        conf._is_loaded = was_loaded


def credentials(name: str, publisher: str) -> dict[str, Any]:
    """Return the settings to sign with a certificate of this name, for a publisher, and to check its signatures."""
    hostname = socket.gethostname().split(".", 1)[0]
    authority = _authority()
    if not (authority.issued / f"{name}.crt").exists():
        authority.issue(name, days=_DAYS, kind="rsa")
    return {
        "sign_messages": True,
        "validate_signatures": True,
        "crypto_backend": "x509",
        "crypto_validate_backends": ["x509"],
        "ssldir": str(authority.issued),
        "certname": name,
        # Who publishes through a relay has the certificate of the shell, unless another one is set.
        "certnames": {publisher: name, f"shell.{hostname}": name},
        "ca_cert_location": str(authority.ca_path),
        "crl_location": str(authority.crl_path),
        "routing_policy": {},
        "routing_nitpicky": False,
    }


@cache
def _authority() -> Authority:
    """Make the authority of all tests of this process: keys take long to make."""
    folder = tempfile.mkdtemp(prefix="fedmsg-testing-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    authority = Authority(Path(folder) / "ca")
    authority.create("fedmsg.testing", days=_DAYS, kind="rsa", crl_days=_DAYS)
    return authority
