# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the databases of the published datanommer, 0.9 and 1.x, and stores what they have."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg._util.text import quoted
from fedmsg.datanommer import models
from fedmsg.datanommer.models import rows, writing
from fedmsg.datanommer.models.rows import Row
from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.store import database

__all__ = ["Import", "Source", "opened_source"]

log = logging.getLogger("fedmsg.datanommer")

# A database takes less for each message of a large batch; two of them are in memory, of messages of any size.
_BATCH = 1000
_UTC = dt.timezone.utc
_BYTES = (bytes, memoryview)
_OPTIONAL = ("i", "username", "certificate", "signature", "crypto")
_COMMON = ("id", "msg_id", "i", "topic", "timestamp", "certificate", "signature", "crypto", "source_name",
           "source_version")  # fmt: skip


class _Form(NamedTuple):
    """How a release has its tables.

    Attributes:
        name: Which release.
        msg: The column with the content; the headers are in the same way.
        headers: The column with the headers.
        names: The statements for users and packages of messages between two ids: id of the message, name.
        more: Further columns of messages that are read.
    """

    name: str
    msg: str
    headers: str
    names: tuple[str, str]
    more: tuple[str, ...]


_OLD = _Form(
    "0.9",
    "_msg",
    "_headers",
    (
        "SELECT msg, username FROM user_messages WHERE msg BETWEEN :first AND :last",
        "SELECT msg, package FROM package_messages WHERE msg BETWEEN :first AND :last",
    ),
    ("username",),
)
_NEW = _Form(
    "1.x",
    "msg",
    "headers",
    (
        "SELECT msg_id, name FROM users_messages JOIN users ON id = user_id WHERE msg_id BETWEEN :first AND :last",
        "SELECT msg_id, name FROM packages_messages JOIN packages ON id = package_id"  # noqa: ISC004 one statement
        " WHERE msg_id BETWEEN :first AND :last",
    ),
    ("agent_name",),
)


class Source:
    """A database of the published datanommer.

    Args:
        engine: The engine of the database.

    Raises:
        ConfigError: It has no such tables.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        found = sa.inspect(engine)
        names = set(found.get_table_names())
        columns = {one["name"] for one in found.get_columns("messages")} if "messages" in names else set()
        forms = [form for form in (_OLD, _NEW) if {form.msg, *_COMMON, *form.more} <= columns]
        where = engine.url.render_as_string(hide_password=True)
        if "datanommer_schema" in names:
            raise ConfigError(f"--from: {where} is a database of this release; use datanommer-dump and datanommer-load")
        if not forms:
            raise ConfigError(f"--from: {where} has no table of messages as datanommer 0.9 or 1.x makes it")
        self.form = forms[0]
        #: Under which name it is noted how far it was read.
        self.name = f"datanommer-load {hashlib.sha256(where.encode()).hexdigest()[:16]}"
        chosen = ", ".join([*_COMMON, *self.form.more, f"{self.form.msg} AS msg", f"{self.form.headers} AS headers"])
        self._read = sa.text(f"SELECT {chosen} FROM messages WHERE id > :after ORDER BY id LIMIT {_BATCH}")  # noqa: S608 names of ours
        self._json = json.JSONDecoder()
        #: How many messages could not be stored.
        self.bad = 0

    def count(self, after: int) -> int:
        """Return how many messages come after an id."""
        with self._engine.connect() as connection:
            statement = sa.text("SELECT count(*) FROM messages WHERE id > :after")
            return int(connection.execute(statement, {"after": after}).scalar_one())

    def batches(self, after: int) -> Iterator[tuple[int, list[Row]]]:
        """Yield the messages after an id, with the last id of each batch; what can't be stored is logged."""
        while True:
            with self._engine.connect() as connection:
                result = connection.execute(self._read, {"after": after})
                keys = list(result.keys())
                # A dict is quicker to look into than what SQLAlchemy makes.
                found = [dict(zip(keys, one, strict=True)) for one in result]
                if not found:
                    return
                span = {"first": found[0]["id"], "last": found[-1]["id"]}
                users, packages = (self._names(connection, statement, span) for statement in self.form.names)
            batch = []
            for one in found:
                names = (rows.storable_names(users[one["id"]]), rows.storable_names(packages[one["id"]]))
                try:
                    batch.append(self._row(one, names))
                except (MessageError, ValueError) as error:
                    self.bad += 1
                    log.error("the message %s can't be stored: %s", quoted(str(one["msg_id"])), error)
            after = span["last"]
            yield after, batch

    @staticmethod
    def _names(connection: sa.Connection, statement: str, span: dict[str, int]) -> dict[int, list[str]]:
        names: defaultdict[int, list[str]] = defaultdict(list)
        for number, name in connection.execute(sa.text(statement), span):
            names[number].append(name)
        return names

    def _row(self, one: dict[str, Any], names: tuple[frozenset[str], frozenset[str]]) -> Row:
        """Return a message as a row of ours."""
        moment = _moment(one["timestamp"])
        seconds = moment.timestamp()
        envelope: dict[str, Any] = {
            "topic": one["topic"], "msg": self._decoded(one["msg"]), "msg_id": one["msg_id"],
            "timestamp": int(seconds) if seconds.is_integer() else seconds,
        }  # fmt: skip
        for key in _OPTIONAL:
            value = one.get(key)
            if value is not None:
                envelope[key] = bytes(value).decode("ascii", "replace") if isinstance(value, _BYTES) else value
        if envelope["msg_id"] is None:
            del envelope["msg_id"]
        headers = self._decoded(one["headers"])
        made = rows.row_of(
            {"topic": one["topic"], "body": envelope, "headers": headers, "stored": seconds},
            {}, names=(*names, one.get("agent_name")),
        )  # fmt: skip
        return made._replace(
            timestamp=moment.replace(tzinfo=None),
            source_name=one["source_name"] or made.source_name,
            source_version=one["source_version"] or "",
            headers=made.headers,
        )

    def _decoded(self, value: Any) -> Any:
        return self._json.decode(value) if isinstance(value, str) else value


def _moment(value: Any) -> dt.datetime:
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(_UTC) if moment.tzinfo else moment.replace(tzinfo=_UTC)


@contextmanager
def opened_source(url: str) -> Iterator[Source]:
    """Open a database of the published datanommer.

    Raises:
        ConfigError: The URL can't be used, or there are no such tables.
        StoreError: The database can't be used.
    """
    engine = database.open_engine(url, "--from")
    database.require_file(engine, "write the path of one")
    try:
        with database.errors_mapped(engine, "can't be read"):
            yield Source(engine)
    finally:
        engine.dispose()


class Import:
    """Stores what a source has, and how far that is; it goes on where it was."""

    def __init__(self, source: Source) -> None:
        self._source = source
        cursor = models.session.get(models.StreamCursor, source.name)
        self.after = cursor.position if cursor is not None else 0
        models.session.remove()

    def run(self) -> Iterator[tuple[int, int]]:
        """Yield of each batch how many messages it had, and how many were not there yet.

        While one is stored, a thread reads the next.
        """
        batches = self._source.batches(self.after)
        with ThreadPoolExecutor(1, "fedmsg-import") as reader:
            coming = reader.submit(next, batches, None)
            while (found := coming.result()) is not None:
                coming = reader.submit(next, batches, None)
                after, batch = found
                yield len(batch), self._store(after, batch)

    def _store(self, after: int, batch: Sequence[Row]) -> int:
        def note(session: orm.Session) -> None:
            session.merge(models.StreamCursor(name=self._source.name, stream="import", position=after))

        return writing.add_rows(batch, before_commit=note, is_import=True)
