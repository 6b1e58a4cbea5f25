# SPDX-License-Identifier: LGPL-2.1-or-later
"""The layers of a configuration, put on top of each other and looked through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fedmsg._util import plugins
from fedmsg._util.text import safe_line
from fedmsg.config import _files, _trust, _words, settings
from fedmsg.exceptions import ConfigError

__all__ = ["Loaded", "Origin", "Request", "accepted", "gather", "lay_over", "lines", "misspelt", "reject", "source_of"]


class Origin(NamedTuple):
    """Where a value came from."""

    layer: str
    path: str | None = None


DEFAULT = Origin("default")
DERIVED = Origin("made from topic_prefix")
COMMAND_LINE = Origin("command line")

#: The origin of each key; of the keys inside it too where a dict has several origins.
Origins = dict[str, Any]


class Request(NamedTuple):
    """What is to be loaded; without filenames, from the usual places."""

    filenames: tuple[str, ...] = ()
    flags: Mapping[str, Any] = {}
    disable_defaults: bool = False
    allow_insecure: bool = False


class Loaded(NamedTuple):
    """A configuration, and all that is known of it."""

    config: dict[str, Any]
    origins: Origins
    files: list[str]
    places: list[str]
    problems: list[ConfigError]
    notes: list[str]


def reject(problems: list[ConfigError]) -> None:
    """Raise what is wrong with a configuration, all of it at once; nothing when it is in order.

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


def _stack(reader: _files.Reader, request: Request) -> tuple[dict[str, Any], Origins]:
    """Merge the files in their order, then the flags over them."""
    config: dict[str, Any] = {}
    origins: Origins = {}
    if not request.disable_defaults:
        # The one default that files are merged into; any other dict of theirs replaces it.
        config["logging"], origins["logging"] = settings.get({}, "logging"), DEFAULT
    for source in reader.sources:
        try:
            lay_over(config, origins, source.values, Origin(source.layer, source.path))
        # Python and YAML can both build a dict that contains itself.
        except RecursionError as error:
            fault = ConfigError(f"{safe_line(source.path)}: its dicts are nested without end")
            fault.__cause__ = error
            reader.problems.append(fault)
    config.update(request.flags)
    origins.update(dict.fromkeys(request.flags, COMMAND_LINE))
    return config, origins


def lay_over(below: dict[str, Any], origins: Origins, above: Mapping[str, Any], origin: Origin) -> None:
    """Merge values into those below, in place and with their origins: dicts are merged, all else is replaced."""
    for key, value in above.items():
        old = below.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = origins[key]
            if isinstance(inner, Origin):
                inner = dict.fromkeys(old, inner)
            lay_over(old, inner, value, origin)
            # One origin for the whole dict, as long as there is but one.
            first = next(iter(inner.values()), origin)
            is_one = isinstance(first, Origin) and all(one == first for one in inner.values())
            origins[key] = first if is_one else inner
        else:
            below[key] = _own(value)
            origins[key] = origin


def _own(value: Any) -> Any:
    """Copy the dicts in a value, and nothing else: a store or an engine can't be copied."""
    return {key: _own(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _flat(origins: Any) -> Iterator[Origin]:
    """Yield every origin of a value."""
    if isinstance(origins, Origin):
        yield origins
    else:
        for inner in origins.values():
            yield from _flat(inner)


def lines(origins: Origins, prefix: str = "") -> Iterator[tuple[str, Origin]]:
    """Yield every key with its origin, and the keys inside a dict that has several."""
    for key, origin in origins.items():
        if isinstance(origin, Origin):
            yield f"{prefix}{key}", origin
        else:
            yield from lines(origin, f"{prefix}{key}.")


def _check(config: dict[str, Any], origins: Origins) -> list[ConfigError]:
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
    """Return a configuration without the values of known keys that can't be used."""
    good = {}
    for name, value in config.items():
        row = settings.TABLE.get(name)
        with contextlib.suppress(ValueError):
            good[name] = row.accept(value) if row else value
    return good


def source_of(origins: Any) -> str:
    """Name the files that a value came from; without any, its layers."""
    found = list(_flat(origins))
    named = [origin for origin in found if origin.path] or found
    sources = (safe_line(origin.path) if origin.path else origin.layer for origin in named)
    return " and ".join(dict.fromkeys(sources))


def _bad_value(row: settings.Setting[Any], value: Any, reason: str, source: str) -> ConfigError:
    shown = "a secret" if row.secret else _words.value_words(value)
    if row.name == "endpoints" and not isinstance(value, dict) and value is not None:
        # Programs look for the first words, which therefore come before the rest.
        return ConfigError(f"{reason} ({source}: endpoints is {shown}; {row.fix})")
    why = f"it is not {row.type}" if row.secret else _words.clip(reason)
    return ConfigError(f"{source}: {row.name} is {shown}: {why}; {row.fix}")


def _complete(config: dict[str, Any], origins: Origins, request: Request) -> dict[str, Any]:
    """Add the defaults, and put known keys into the order of the table."""
    if request.disable_defaults:
        return config
    ordered = settings.defaults()
    for name, row in settings.TABLE.items():
        if not row.derived:
            origins.setdefault(name, DEFAULT)
    ordered.update(config)
    if ordered.get("topic_prefix_re") is None and isinstance(ordered["topic_prefix"], str):
        ordered["topic_prefix_re"] = settings.derive_topic_prefix_re(ordered)
        origins["topic_prefix_re"] = DERIVED
    return ordered


def misspelt(values: Mapping[str, Any], path: str) -> list[str]:
    """Name the keys that look like misspelt ones of ours."""
    found = []
    for name in values:
        near = None if name in settings.TABLE else _words.did_you_mean(name, settings.TABLE)
        if near:
            shown = _words.value_words(name)
            found.append(f"{safe_line(path)}: nothing reads the key {shown}; did you mean {near!r}?")
    return found


def _look_up(config: dict[str, Any], origins: Origins) -> list[str]:
    """Add the endpoints that are kept in the DNS, and return which can't be looked up."""
    domains = config.get("srv_endpoints")
    if not domains:
        return []
    notes = []
    dns = plugins.lazy("dns")
    for domain in domains:
        origin = Origin(f"SRV records of {domain}")
        try:
            addresses = dns.service_addresses(domain)
        except dns.LookupFailed as error:
            shown, reason = _words.value_words(domain), _words.clip(str(error))
            notes.append(f"srv_endpoints: the endpoints of {shown} can't be looked up: {reason}")
            continue
        lay_over(config, origins, {"endpoints": {domain: addresses}}, origin)
    return notes
