# SPDX-License-Identifier: LGPL-2.1-or-later
"""An entry of ``irc``: which keys it may have, and what they become."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedmsg.config import settings
from fedmsg.exceptions import ConfigError
from fedmsg.filters import MessageFilter

__all__ = ["Bot", "compile_filters", "entries", "problems", "read", "unknown"]

#: A word of the protocol.
_WORD = re.compile(r"[^\s,:\x00-\x20][^\s,\x00-\x20]*")
_NICKNAME = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]*")
_CHANNEL_SIGNS = "#&+!"


@dataclass(frozen=True)
class Bot:
    """One bot in one channel, as configured; programs that go through ``irc_clients`` know it as ``client.factory``."""

    channel: str
    network: str = "irc.libera.chat"
    port: int = 6667
    ssl: bool = False
    ssl_ca: str | None = None  # the file with the authorities to trust instead of the system's
    nickname: str = "fedmsg-bot"
    timeout: float = 120.0  # seconds until a server that does not answer counts as lost
    pretty: bool = False
    terse: bool = False
    short: bool | Callable[[str], str] = False
    rate: float = 1.0  # seconds from one line to the next, at least
    backlog: int = 1000
    filters: Mapping[str, list[re.Pattern[str]]] = field(default_factory=dict)  # from `compile_filters`
    only: MessageFilter | None = None
    channel_key: str | None = field(default=None, repr=False)
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    nickserv_password: str | None = field(default=None, repr=False)
    server_password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return a name of the bot, for the log."""
        return f"{self.channel} on {self.network}:{self.port}"

    @property
    def secrets(self) -> bool:
        """Whether a password is sent to the server."""
        return bool(self.sasl_password or self.nickserv_password or self.server_password)


# Keys whose attribute has another name.
_NAMES = {"make_pretty": "pretty", "make_terse": "terse", "make_short": "short", "line_rate": "rate"}
_SECRETS = ("channel_key", "sasl_password", "nickserv_password", "server_password")


def compile_filters(filters: Mapping[str, Any] | None) -> dict[str, list[re.Pattern[str]]]:
    """Compile the expressions of ``filters``, which may be empty or None; the result has both keys.

    Raises:
        ConfigError: One can't be compiled.
    """
    found: dict[str, list[re.Pattern[str]]] = {"topic": [], "body": []}
    for key, compiled in found.items():
        expressions = (filters or {}).get(key)
        for expression in [expressions] if isinstance(expressions, str) else expressions or ():
            try:
                compiled.append(re.compile(expression))
            except (re.error, TypeError) as error:
                raise ConfigError(f"filters: {expression!r} is no regular expression: {error}") from error
    return found


def unknown(entry: Mapping[str, Any]) -> list[str]:
    """Return lines about the keys of an entry that are unknown."""
    known = ", ".join(sorted(_READERS))
    lines = [f"{key!r} is unknown and ignored; known are: {known}" for key in entry if _reader_of(key)[1] is None]
    more = sorted(map(str, set(entry.get("filters") or ()) - {"topic", "body"}))
    return lines + [f"filters: {key!r} is unknown and ignored; write 'topic' or 'body'" for key in more]


def read(entry: Mapping[str, Any], filter_options: Mapping[str, Any] = MappingProxyType({})) -> Bot:
    """Return the bot of an entry that has a channel. Unknown keys are left to `unknown`, as 1.x let them pass.

    The filter options are those of the `MessageFilter` that ``only`` makes.

    Raises:
        ConfigError: The text lists all that is wrong, in one line, without passwords.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, value in entry.items():
        name, reader = _reader_of(key)
        if reader is None or value is None:
            continue
        try:
            values[name] = _only(value, **filter_options) if key == "only" else reader(value)
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if values.get("ssl"):
        values.setdefault("port", 6697)
    if ("sasl_username" in values) != ("sasl_password" in values):
        faults.append("sasl_username and sasl_password go together")
    if faults:
        raise ConfigError(f"the entry of 'irc' for {entry.get('channel')!r} can't be used: {'; '.join(faults)}")
    return Bot(**values)


def entries(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of ``irc``; an error does not show them, since they may hold passwords."""
    found = settings.get(config, "irc") or []
    if not isinstance(found, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in found):
        raise ConfigError("irc: it is not a list of dicts; write [{'network': 'irc.libera.chat', 'channel': 'news'}]")
    return list(found)


def problems(config: Mapping[str, Any]) -> Iterator[settings.Problem]:
    """Find entries that can't be used, and keys in them that nothing reads; for ``fedmsg-config --check``."""
    for number, entry in enumerate(entries(config)):
        key = f"irc[{number}]"
        if not entry.get("channel"):
            text = "it has no channel and is ignored; write 'channel': '#name'"
            yield settings.Problem(key, text, stops=False)
            continue
        try:
            read(entry)
        except ConfigError as error:
            yield settings.Problem(key, str(error))
            continue
        yield from (settings.Problem(key, text, stops=False) for text in unknown(entry))


def _reader_of(key: str) -> tuple[str, Callable[[Any], Any] | None]:
    """Return the attribute of `Bot` for a key, and the function that reads its value."""
    name = str(key).removesuffix("_file")
    if name != key and name in _SECRETS:
        return name, _secret_in_file
    return _NAMES.get(key, key), _READERS.get(key)


# ------------------------------------------------------------ readers of values


def _only(value: Any, **options: Any) -> MessageFilter:
    return MessageFilter.from_config(value, "only", **options)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("write text in quotes")
    return value


def _authorities(value: Any) -> str:
    try:
        ssl.create_default_context(cafile=_text(value))
    except OSError as error:
        raise ValueError(f"no certificates can be read from {value}: {error.strerror or error}") from error
    return str(value)


def _word(value: Any) -> str:
    if not _WORD.fullmatch(_text(value)):
        raise ValueError(f"{value!r} has a character that can't be in it")
    return str(value)


def _channel(value: Any) -> str:
    word = _word(value)
    return word if word[0] in _CHANNEL_SIGNS else f"#{word}"


def _nickname(value: Any) -> str:
    if not _NICKNAME.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is no name on IRC; write letters, digits, - and _")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise ValueError(f"{value!r} is not a number of seconds")
    return float(value)


def _positive(value: Any) -> float:
    if not _number(value):
        raise ValueError("write more than 0 seconds")
    return float(value)


def _whole(value: Any, lowest: int, highest: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not lowest <= int(text) <= highest:
        raise ValueError(f"{value!r} is not a whole number from {lowest} to {highest}")
    return int(text)


def _flag(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError("write True or False")
    return bool(value)


def _secret(value: Any) -> str:
    """Return a password; the error does not show it."""
    if not _text(value).isprintable():
        raise ValueError("it has a character that can't be in it")
    return str(value)


def _secret_word(value: Any) -> str:
    if not _WORD.fullmatch(_text(value)):
        raise ValueError("it has a character that can't be in it")
    return str(value)


def _secret_in_file(value: Any) -> str:
    try:
        return _secret(Path(_text(value)).read_text(encoding="utf-8").rstrip("\n"))
    except (OSError, UnicodeError) as error:
        raise ValueError(f"can't read {value}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error


_READERS: dict[str, Callable[[Any], Any]] = {
    "network": _word, "port": lambda value: _whole(value, 1, 65535), "ssl": _flag, "ssl_ca": _authorities,
    "nickname": _nickname, "channel": _channel, "channel_key": _secret_word, "timeout": _positive,
    "line_rate": _number, "backlog": lambda value: _whole(value, 1, 10**6), "make_pretty": _flag, "make_terse": _flag,
    "make_short": lambda value: value if callable(value) else _flag(value), "filters": compile_filters, "only": _only,
    "sasl_username": _word, "sasl_password": _secret, "nickserv_password": _secret, "server_password": _secret_word,
}  # fmt: skip
