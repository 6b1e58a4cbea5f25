# SPDX-License-Identifier: LGPL-2.1-or-later
"""Puts messages into words with real plugins, on either side; prints a JSON object a line.

``words.py FOLDER``: the messages are those of the plugins' own tests, and a few more.
``words.py FOLDER groups``: the messages of their tests for groups.
``words.py FOLDER tests``: runs these tests; prints the name and the outcome of each.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import pkgutil
import socket
import sys
import unittest
import warnings
from typing import Any

# The plugins are as old as fedmsg 1.1.7, and their escapes in docstrings are warned of.
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)

import fedmsg.meta  # noqa: E402 found in the folder are the plugins, when it is on the path
import fedmsg.tests.test_meta  # noqa: E402 likewise

CONFIG: Any = {"topic_prefix": "org.fedoraproject", "topic_prefix_re": r"^org\.fedoraproject\.(dev|stg|prod)"}
PLUGINS = "fedmsg_meta_fedora_infrastructure"
FUNCTIONS = sorted(name for name in dir(fedmsg.meta) if name.startswith("msg2") and name != "msg2summary")
# Who is who, instead of asking a server for it.
PEOPLE = {"threebean": "ralph", "rbean@redhat.com": "ralph", "puiterwijk@gmail.com": "puiterwijk"}


def cases(kind: Any) -> list[Any]:
    """Give the test classes of the plugins, in the same order on both sides."""
    package = importlib.import_module(f"{PLUGINS}.tests")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found, rest = set(), [kind]
    while rest:
        one = rest.pop()
        found.add(one)
        rest += one.__subclasses__()
    return sorted(
        (one for one in found if one.__module__.startswith(PLUGINS)), key=lambda one: (one.__module__, one.__name__)
    )


def plain(value: Any) -> Any:
    """Make JSON of what a function returned."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value if isinstance(value, (str, int, float, type(None))) else f"<{type(value).__name__}>"


def said(function: str, msg: Any) -> Any:
    """Give what a function says of a message."""
    arguments = {"subject": "ralph"} if function == "msg2subjective" else {}
    try:
        answer = getattr(fedmsg.meta, function)(msg, **arguments, **CONFIG)
    except Exception as error:  # noqa: BLE001 what is let out is part of the answer
        return f"raised {type(error).__name__}"
    return f"{type(answer).__module__}:{type(answer).__name__}" if function == "msg2processor" else plain(answer)


def grouped(messages: list[Any]) -> Any:
    """Give the groups of messages."""
    try:
        return plain(fedmsg.meta.conglomerate(list(messages), "ralph", **CONFIG))
    except Exception as error:  # noqa: BLE001 what is let out is part of the answer
        return f"raised {type(error).__name__}"


def no_network(*_: Any) -> Any:
    """Stand in for the look-up of host names: some plugins fetch pages, which come and go."""
    raise OSError("no network here")


def shapes(msg: Any) -> list[Any]:
    """Give a message, and others that are like it and lack something."""
    body = msg.get("msg")
    found = [msg, {**msg, "msg": {}}]
    keys = list(body)[:3] if isinstance(body, dict) else []
    return [*found, *({**msg, "msg": {one: body[one] for one in body if one != key}} for key in keys)]


def main(what: str) -> None:
    """Print what was asked for."""
    socket.getaddrinfo = no_network  # type: ignore[assignment]
    vars(importlib.import_module(f"{PLUGINS}.fasshim"))["_fas_cache"] = dict(PEOPLE)
    fedmsg.meta.make_processors(**CONFIG)
    base = fedmsg.tests.test_meta.ConglomerateBase if what == "groups" else fedmsg.tests.test_meta.Base
    classes = cases(base)
    if what == "messages":
        print(json.dumps([f"{type(one).__module__}:{type(one).__name__}" for one in fedmsg.meta.processors]))
        originals = [one.msg for one in classes if isinstance(one.msg, dict)]
        for number, msg in enumerate(shape for original in originals for shape in shapes(original)):
            print(json.dumps([number, msg["topic"], {function: said(function, msg) for function in FUNCTIONS}]))
    elif what == "groups":
        for one in classes:
            if isinstance(one.originals, list):
                print(json.dumps([one.__name__, grouped(one.originals)]))
    else:
        for one in classes + cases(fedmsg.tests.test_meta.ConglomerateBase):
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(one):
                assert isinstance(test, unittest.TestCase)
                outcome = unittest.TestResult()
                # Some of them print.
                with contextlib.redirect_stdout(io.StringIO()):
                    test.run(outcome)
                bad = outcome.failures + outcome.errors
                print(json.dumps([test.id(), "bad" if bad else "skipped" if outcome.skipped else "good"]))


main(sys.argv[2] if len(sys.argv) > 2 else "messages")
