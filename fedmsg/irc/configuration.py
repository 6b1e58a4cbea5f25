# SPDX-License-Identifier: LGPL-2.1-or-later
"""An entry of ``irc``: which keys it may have, and what they become."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedmsg.exceptions import ConfigError
from fedmsg.filters import MessageFilter

__all__ = ["Bot", "compile_filters", "read", "unknown"]

#: A word of the protocol.
_WORD = re.compile(r"[^\s,:\x00-\x20][^\s,\x00-\x20]*")
_NICKNAME = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]*")
_CHANNEL_SIGNS = "#&+!"


@dataclass(frozen=True)
class Bot:
    """One bot in one channel, as configured.

    Programs that go through ``irc_clients`` know it as ``client.factory``.

    Attributes:
        channel: The channel, with its sign.
        network: The host of the server.
        port: Its port.
        ssl: Whether the connection is encrypted and the server's certificate checked.
        ssl_ca: The file with the certificates of the authorities to trust instead of the system's.
        nickname: The name that the bot wants to have.
        timeout: Seconds until a server that doesn't answer counts as lost.
        pretty: Whether lines have colours.
        terse: Whether lines are in English.
        short: True, or a function from a link to a shorter one.
        rate: Seconds from one line to the next, at least.
        backlog: How many messages may wait.
        filters: What is left out, from `compile_filters`.
        only: What is shown, in the filter language; None shows everything.
        channel_key: What the channel asks for when it has a key.
        sasl_username: The account to log in to.
        sasl_password: Its password.
        nickserv_password: The password for NickServ instead.
        server_password: The password of the server itself.
    """

    channel: str
    network: str = "irc.libera.chat"
    port: int = 6667
    ssl: bool = False
    ssl_ca: str | None = None
    nickname: str = "fedmsg-bot"
    timeout: float = 120.0
    pretty: bool = False
    terse: bool = False
    short: bool | Callable[[str], str] = False
    rate: float = 1.0
    backlog: int = 1000
    filters: Mapping[str, list[re.Pattern[str]]] = field(default_factory=dict)
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
    """Compile the expressions of ``filters``.

    Args:
        filters: Lists of regular expressions under ``topic`` and ``body``; may be empty or None.

    Returns:
        The compiled ones, under both keys.

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
    """Return lines about the keys of an entry that are unknown.

    Args:
        entry: The dict from the configuration.
    """
    lines = [
        f"{key!r} is unknown and ignored; known are: {', '.join(sorted(_READERS))}"
        for key in entry
        if _reader_of(key)[1] is None
    ]
    more = sorted(map(str, set(entry.get("filters") or ()) - {"topic", "body"}))
    return lines + [f"filters: {key!r} is unknown and ignored; write 'topic' or 'body'" for key in more]


def read(entry: Mapping[str, Any], filter_options: Mapping[str, Any] | None = None) -> Bot:
    """Return the bot of an entry that has a channel. Unknown keys are left to `unknown`, as 1.x let them pass.

    Args:
        entry: The dict from the configuration.
        filter_options: The options of the `MessageFilter` that ``only`` makes.

    Raises:
        ConfigError: The text lists all that is wrong, in one line, without passwords.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, value in entry.items():
        name, reader = _reader_of(key)
        if reader is None:
            continue
        try:
            if value is not None:
                values[name] = reader(value) if key != "only" else _only(value, filter_options or {})
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if values.get("ssl"):
        values.setdefault("port", 6697)
    faults += _contradictions(values)
    if faults:
        raise ConfigError(f"the entry of 'irc' for {entry.get('channel')!r} can't be used: {'; '.join(faults)}")
    return Bot(**values)


def _reader_of(key: str) -> tuple[str, Callable[[Any], Any] | None]:
    """Return the attribute of `Bot` for a key, and the function that reads its value."""
    name = str(key).removesuffix("_file")
    if name != key and name in _SECRETS:
        return name, _secret_in_file
    return _NAMES.get(key, key), _READERS.get(key)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    found = []
    if ("sasl_username" in values) != ("sasl_password" in values):
        found.append("sasl_username and sasl_password go together")
    if "sasl_password" in values and "server_password" in values:
        found.append("sasl_password and server_password can't both be used")
    return found


# ------------------------------------------------------------ readers of values


def _only(value: Any, options: Mapping[str, Any] = MappingProxyType({})) -> MessageFilter:
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


def _whole(lowest: int, highest: int) -> Callable[[Any], int]:
    def read_whole(value: Any) -> int:
        text = str(value)
        if isinstance(value, bool) or not text.isdecimal() or not lowest <= int(text) <= highest:
            raise ValueError(f"{value!r} is not a whole number from {lowest} to {highest}")
        return int(text)

    return read_whole


def _flag(value: Any) -> bool:
    if value not in (True, False):
        raise ValueError("write True or False")
    return bool(value)


def _short(value: Any) -> Any:
    return value if callable(value) else _flag(value)


def _secret(value: Any) -> str:
    text = _text(value)
    if not text.isprintable():
        raise ValueError("it has a character that can't be in it")
    return text


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
    "network": _word, "port": _whole(1, 65535), "ssl": _flag, "ssl_ca": _authorities, "nickname": _nickname,
    "channel": _channel, "channel_key": _secret_word, "timeout": _positive, "line_rate": _number,
    "backlog": _whole(1, 10**6),
    "make_pretty": _flag, "make_terse": _flag, "make_short": _short, "filters": compile_filters, "only": _only,
    "sasl_username": _word, "sasl_password": _secret, "nickserv_password": _secret, "server_password": _secret_word,
}  # fmt: skip
