# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with addresses and CURVE keys: looked at before a start, by ``fedmsg-config --check``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fedmsg.config.settings import Problem, of
from fedmsg.exceptions import FedmsgError
from fedmsg.transport.zmq import curve

__all__ = ["problems"]


def problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Find addresses that a listener can't connect to, and CURVE keys that can't be used.

    Args:
        config: The configuration.
    """
    view = of(config)
    for name, addresses in view.endpoints.items():
        for address in addresses:
            if address.startswith("tcp://*:"):
                text = f"a listener can't connect to {address!r}; write the name of the host in place of the *"
                yield Problem(f"endpoints[{name!r}]", text, stops=False)
    for name in view.curve_servers:
        yield from _failure(partial(curve.prepare, config, [name]))
    for key, folder in (("curve_publishers", view.curve_publishers), ("curve_subscribers", view.curve_subscribers)):
        if folder:
            yield from _failure(partial(curve.guard_settings, {"curve_key": view.curve_key, key: folder}))
    if view.curve_key and not os.access(view.curve_key, os.R_OK):
        yield Problem("curve_key", f"{view.curve_key} can't be read; fedmsg-certs curve makes a key pair", stops=False)


def _failure(start: Callable[[], object]) -> Iterator[Problem]:
    """Do a part of a start, and return the problem that ends it."""
    try:
        start()
    except FedmsgError as error:
        key, _, text = str(error).partition(": ")
        yield Problem(key, text) if text else Problem("curve_key", str(error))
