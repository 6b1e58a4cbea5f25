# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layers of a configuration, put on top of each other and looked through."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fedmsg._util import plugins
from fedmsg.config import _files, _merge, _trust, _words, settings
from fedmsg.exceptions import ConfigError

__all__ = ["Loaded", "Request", "gather", "misspelt", "reject", "source_of"]


class Request(NamedTuple):
    """What is to be loaded.

    Attributes:
        filenames: The files to read instead of those in the usual places; empty means the usual ones.
        flags: What was given on the command line.
        disable_defaults: Whether to start from nothing.
        allow_insecure: Whether files are read without a look at their owner and mode.
    """

    filenames: tuple[str, ...] = ()
    flags: Mapping[str, Any] = {}
    disable_defaults: bool = False
    allow_insecure: bool = False


class Loaded(NamedTuple):
    """A configuration, and all that is known of it.

    Attributes:
        config: The configuration itself.
        origins: Where each value came from.
        files: The files that were read.
        places: Where files were looked for.
        problems: What makes it unfit for use.
        notes: What is worth a warning.
    """

    config: dict[str, Any]
    origins: _merge.Origins
    files: list[str]
    places: list[str]
    problems: list[ConfigError]
    notes: list[str]


def reject(problems: list[ConfigError]) -> None:
    """Raise what is wrong with a configuration, all of it at once; nothing when it is in order.

    Args:
        problems: What is wrong.

    Raises:
        ConfigError: There are problems.
    """
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listed = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
        raise ConfigError(f"{len(problems)} problems in the configuration: {listed}") from problems[0]


def gather(request: Request) -> Loaded:
    """Read the files, lay them over the defaults and each other, and check the values.

    Args:
        request: What is wanted.

    Raises:
        ConfigError: A file that was asked for by name is not there.
    """
    places = _places(request.filenames)
    reader = _files.Reader(insecure_ok=request.allow_insecure or _trust.insecure_is_allowed())
    for place in places:
        reader.read(place)
    config, origins = _stack(reader, request)
    problems = reader.problems + _check(config, origins)
    config = _complete(config, origins, request)
    notes = reader.notes + [note for source in reader.sources for note in misspelt(source.values, source.path)]
    if not problems:
        notes += _look_up(config, origins)
    files = [source.path for source in reader.sources]
    return Loaded(config, origins, files, [place.path for place in places], problems, notes)


def _places(filenames: tuple[str, ...]) -> list[_files.Place]:
    if filenames:
        return _files.named_files(filenames)
    named = _files.named_place()
    return [named] if named else _files.usual_places()


def _stack(reader: _files.Reader, request: Request) -> tuple[dict[str, Any], _merge.Origins]:
    """Lay the files over each other, then the flags over them."""
    config: dict[str, Any] = {}
    origins: _merge.Origins = {}
    if not request.disable_defaults:
        # The one default that files are merged into; any other dict of theirs replaces it.
        config["logging"], origins["logging"] = settings.get({}, "logging"), _merge.DEFAULT
    for source in reader.sources:
        try:
            _merge.lay_over(config, origins, source.values, _merge.Origin(source.layer, source.path))
        # Python and YAML can both build a dict that contains itself.
        except RecursionError as error:
            fault = ConfigError(f"{_words.path_words(source.path)}: its dicts are nested without end")
            fault.__cause__ = error
            reader.problems.append(fault)
    config.update(request.flags)
    origins.update(dict.fromkeys(request.flags, _merge.COMMAND_LINE))
    return config, origins


def _check(config: dict[str, Any], origins: _merge.Origins) -> list[ConfigError]:
    """Turn the values of known keys into what the code works with, and return what is wrong with them."""
    problems = []
    for name, value in config.items():
        row = settings.TABLE.get(name)
        if row is None:
            continue
        try:
            config[name] = row.accept(value)
        except ValueError as error:
            problems.append(_bad_value(row, value, str(error), source_of(origins[name])))
    return problems


def accepted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the values of known keys that can't be used.

    Args:
        config: The configuration.
    """
    good = {}
    for name, value in config.items():
        row = settings.TABLE.get(name)
        with contextlib.suppress(ValueError):
            good[name] = row.accept(value) if row else value
    return good


def source_of(origins: Any) -> str:
    """Name the files that a value came from; without any, its layers.

    Args:
        origins: Its origin, or the origins of what is in it.
    """
    found = list(_merge.flat(origins))
    named = [origin for origin in found if origin.path] or found
    sources = (_words.path_words(origin.path) if origin.path else origin.layer for origin in named)
    return " and ".join(dict.fromkeys(sources))


def _bad_value(row: settings.Setting[Any], value: Any, reason: str, source: str) -> ConfigError:
    shown = "a secret" if row.secret else _words.value_words(value)
    if row.name == "endpoints" and not isinstance(value, dict) and value is not None:
        # Programs look for the first words, which therefore come before the rest.
        return ConfigError(f"{reason} ({source}: endpoints is {shown}; {row.fix})")
    why = f"it is not {row.type}" if row.secret else _words.clip(reason)
    return ConfigError(f"{source}: {row.name} is {shown}: {why}; {row.fix}")


def _complete(config: dict[str, Any], origins: _merge.Origins, request: Request) -> dict[str, Any]:
    """Add the defaults, and put known keys into the order of the table."""
    if request.disable_defaults:
        return config
    ordered = settings.defaults()
    for name, row in settings.TABLE.items():
        if not row.derived:
            origins.setdefault(name, _merge.DEFAULT)
    ordered.update(config)
    if ordered.get("topic_prefix_re") is None and isinstance(ordered["topic_prefix"], str):
        ordered["topic_prefix_re"] = settings.derive_topic_prefix_re(ordered["topic_prefix"])
        origins["topic_prefix_re"] = _merge.DERIVED
    return ordered


def misspelt(values: Mapping[str, Any], path: str) -> list[str]:
    """Name the keys that look like misspelt ones of ours.

    Args:
        values: What a file sets.
        path: Where the file lies.
    """
    found = []
    for name in values:
        near = None if name in settings.TABLE else _words.did_you_mean(name, settings.TABLE)
        if near:
            shown = _words.value_words(name)
            found.append(f"{_words.path_words(path)}: nothing reads the key {shown}; did you mean {near!r}?")
    return found


def _look_up(config: dict[str, Any], origins: _merge.Origins) -> list[str]:
    """Add the endpoints that are kept in the DNS, and return which can't be looked up."""
    domains = config.get("srv_endpoints")
    if not domains:
        return []
    notes = []
    dns = plugins.lazy("dns")
    for domain in domains:
        origin = _merge.Origin(f"SRV records of {domain}")
        try:
            addresses = dns.service_addresses(domain)
        except dns.LookupFailed as error:
            shown, reason = _words.value_words(domain), _words.clip(str(error))
            notes.append(f"srv_endpoints: the endpoints of {shown} can't be looked up: {reason}")
            continue
        _merge.lay_over(config, origins, {"endpoints": {domain: addresses}}, origin)
    return notes
