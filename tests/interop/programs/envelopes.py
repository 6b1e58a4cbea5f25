# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the envelopes of some messages, published to nobody, or why there is none: envelopes.py SETTINGS."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import fedmsg

MESSAGES: list[Any] = [None, {}, [], "", 0, 0.0, False, "text", [0], 7, True]
CASES: list[dict[str, Any]] = [
    {},
    {"topic": "made", "modname": "app"},
    {"topic": "", "modname": "app", "msg": {"x": 1}},
    {"topic": "made", "modname": "", "msg": {"x": 1}},
    *({"topic": "made", "modname": "app", "msg": msg} for msg in MESSAGES),
    {"topic": "made", "modname": "app", "msg": {"x": [1, {"y": "é\ud800"}], "": None}},
    {"topic": "é.☃", "modname": "ü", "msg": {"x": 1}},
    {"topic": " a  b ", "modname": ". .", "msg": {"x": 1}},
    {"topic": "org.example.made", "modname": "app"},
    {"topic": "made", "modname": "org.example.app"},
    {"topic": "made", "modname": "org.example"},
    {"topic": "made", "modname": "org.exampleapp"},
    {"topic": "made", "modname": "org"},
    {"topic": "example.made", "modname": "org"},
    {"topic": "made", "modname": "app", "msg": {"x": {1, 2}}},
]

# They come last, because fedmsg 1.1.7 counts in ``i`` also what it could not send.
IMPOSSIBLE = [{"x": object()}, {"x": b"bytes"}, {(1, 2): 3}, {"x": frozenset()}]


def show(envelope: dict[str, Any]) -> None:
    """Print what does not differ from one run to the next, and the form of what does."""
    fixed = {key: value for key, value in envelope.items() if key not in {"msg_id", "timestamp"}}
    forms = [len(envelope["msg_id"]), envelope["msg_id"][18], type(envelope["timestamp"]).__name__]
    print(fedmsg.encoding.dumps([fixed, forms]))


if __name__ == "__main__":
    fedmsg.init(**json.loads(sys.argv[1]))
    for case in CASES:
        fedmsg.publish(pre_fire_hook=show, **case)
    # Nobody says what this is about: the name of the calling package counts.
    importlib.import_module("application.views").publish()
    for msg in IMPOSSIBLE:
        try:
            fedmsg.publish(topic="made", modname="app", msg=msg, pre_fire_hook=show)
        except TypeError:
            print("TypeError")
    fedmsg.destroy()
