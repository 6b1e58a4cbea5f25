# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages as answers have them: with what fedmsg.meta knows, in groups, with a choice of their parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedmsg import meta
from fedmsg.datanommer.models import Published

__all__ = ["Describer"]

_Describe = Callable[[dict[str, Any], Mapping[str, Any]], Any]


def _objects_of(kind: str) -> _Describe:
    """Return what picks the names of one kind of thing among the objects of a message."""

    def pick(envelope: dict[str, Any], config: Mapping[str, Any]) -> set[str]:
        found = (str(one).split("/", 1) for one in meta.msg2objects(envelope, **config))
        return {parts[1] for parts in found if len(parts) == 2 and parts[0] == kind}

    return pick


def _avatar(envelope: dict[str, Any], config: Mapping[str, Any]) -> str | None:
    return meta.msg2avatars(envelope, **config).get(meta.msg2agent(envelope, **config) or "")


def _date(envelope: dict[str, Any], _config: Mapping[str, Any]) -> str:
    return meta.ago(envelope["timestamp"], time.time())


_DESCRIBE: dict[str, _Describe] = {
    "title": lambda envelope, config: meta.msg2title(envelope, **config),
    "subtitle": lambda envelope, config: meta.msg2subtitle(envelope, **config),
    "summary": lambda envelope, config: meta.msg2summary(envelope, **config),
    "text": lambda envelope, config: meta.msg2long_form(envelope, **config),
    "long_form": lambda envelope, config: meta.msg2long_form(envelope, **config),
    "link": lambda envelope, config: meta.msg2link(envelope, **config),
    "url": lambda envelope, config: meta.msg2link(envelope, **config),
    "icon": lambda envelope, config: meta.msg2icon(envelope, **config),
    "app_icon": lambda envelope, config: meta.msg2icon(envelope, **config),
    "secondary_icon": lambda envelope, config: meta.msg2secondary_icon(envelope, **config),
    "agent_avatar": _avatar,
    "usernames": lambda envelope, config: meta.msg2usernames(envelope, **config),
    "packages": lambda envelope, config: meta.msg2packages(envelope, **config),
    "objects": lambda envelope, config: meta.msg2objects(envelope, **config),
    "containers": _objects_of("containers"),
    "modules": _objects_of("modules"),
    "flatpaks": _objects_of("flatpaks"),
    "date": _date,
}


class Describer:
    """Puts messages into words.

    Args:
        config: The configuration, for fedmsg.meta.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        # A message may not set what a function is called with.
        self.config = {key: value for key, value in config.items() if key not in {"msg", "processor", "subject"}}
        if not meta.processors:
            meta.make_processors(**self.config)

    def about(self, envelope: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """Return what fedmsg.meta knows of a message; sets become lists."""
        found = {name: _DESCRIBE[name](envelope, self.config) for name in names}
        return {name: sorted(value, key=str) if isinstance(value, set) else value for name, value in found.items()}

    def message(self, message: Published, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message with what the arguments of a request want of it."""
        return self.envelope(message.as_dict(), given)

    def envelope(self, envelope: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a published message with what the arguments of a request want of it."""
        if given.get("meta"):
            envelope["meta"] = self.about(envelope, given["meta"])
        return chosen(envelope, given.get("fields") or ())

    def fedora_message(self, message: Published, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message in the form of fedora-messaging."""
        found = message.as_fedora_message_dict()
        if given.get("meta"):
            found["meta"] = self.about(message.as_dict(), given["meta"])
        return found

    def messages(self, messages: Iterable[Published], given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return messages, or groups of them, with what the arguments of a request want of them."""
        if not given.get("grouped"):
            return [self.message(message, given) for message in messages]
        groups = meta.conglomerate([message.as_dict() for message in messages], **self.config)
        return [chosen(group, given.get("fields") or ()) for group in groups]


def chosen(envelope: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return the parts of a message that are wanted."""
    wanted = {name for name in fields if not name.startswith("-")}
    unwanted = {name[1:] for name in fields if name.startswith("-")}
    if not wanted and not unwanted:
        return envelope
    return {
        key: value for key, value in envelope.items()
        if (not wanted or key in wanted or key == "meta") and key not in unwanted
    }  # fmt: skip
