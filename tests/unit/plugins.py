# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors for tests of fedmsg.meta, as the authors of plugins write them."""

from __future__ import annotations

from typing import Any

from fedmsg.meta.base import BaseProcessor

CONFIG: dict[str, Any] = {
    "topic_prefix": "org.fedoraproject",
    "topic_prefix_re": r"^org\.fedoraproject\.(dev|stg|prod)",
}


def envelope(topic: str, msg: Any = None, **more: Any) -> dict[str, Any]:
    """Give a message, whose topic begins as those of the configuration do."""
    return {"topic": f"org.fedoraproject.dev.{topic}", "msg": {} if msg is None else msg, **more}


def make(name: str, config: dict[str, Any] | None = None, **members: Any) -> Any:
    """Make a processor of a new class; ``members`` are methods and attributes of it."""
    about = dict.fromkeys(("__description__", "__link__", "__docs__", "__obj__"), "something")
    plugin = type("Plugin", (BaseProcessor,), {**about, "__name__": name, **members})
    return plugin(str, **(CONFIG if config is None else config))


def answering(answer: Any) -> Any:
    """Give a method that returns something whatever it is asked."""
    return lambda self, *arguments, **config: answer


def raising(error: BaseException) -> Any:
    """Give a method that raises."""

    def method(self: Any, *arguments: Any, **config: Any) -> Any:
        raise error

    return method
