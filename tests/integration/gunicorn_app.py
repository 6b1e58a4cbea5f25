# SPDX-License-Identifier: LGPL-2.1-or-later
"""A web application that publishes a message in each request.

It is initialised where it is imported, and has published there: with ``--preload`` that
is gunicorn's master, before it forks its workers. How it publishes is given in the
variable ``APP_SETTINGS``, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import fedmsg

SETTINGS: dict[str, Any] = json.loads(os.environ["APP_SETTINGS"])

fedmsg.init(**SETTINGS)
fedmsg.publish(topic="start", msg={"pid": os.getpid()}, modname="app")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer a request for ``/<number>``: publish the number, and tell which process did."""
    number = int(environ["PATH_INFO"].removeprefix("/"))
    # The settings are for a thread that publishes for the first time.
    fedmsg.publish(topic="request", msg={"n": number}, modname="app", **SETTINGS)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
