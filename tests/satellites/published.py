# SPDX-License-Identifier: LGPL-2.1-or-later
"""Databases as the published datanommer has them, 0.9 and 1.x, made by plain SQL."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

START = dt.datetime(2020, 1, 1)  # noqa: DTZ001 the columns have no zone

_OLD = """
CREATE TABLE messages (id {serial}, msg_id TEXT UNIQUE, i INTEGER NOT NULL, topic TEXT, timestamp {time} NOT NULL,
    certificate TEXT, signature TEXT, category TEXT, username TEXT, crypto TEXT, source_name TEXT,
    source_version TEXT, _msg TEXT NOT NULL, _headers TEXT);
CREATE TABLE "user" (name TEXT PRIMARY KEY);
CREATE TABLE package (name TEXT PRIMARY KEY);
CREATE TABLE user_messages (username TEXT, msg INTEGER);
CREATE TABLE package_messages (package TEXT, msg INTEGER);
CREATE TABLE alembic_version (version_num TEXT NOT NULL)
"""
_NEW = """
CREATE TABLE messages (id SERIAL, timestamp TIMESTAMP NOT NULL, msg_id TEXT NOT NULL, i INTEGER NOT NULL, topic TEXT,
    certificate TEXT, signature TEXT, category TEXT, agent_name TEXT, crypto TEXT, source_name TEXT,
    source_version TEXT, msg JSONB NOT NULL, headers JSONB, PRIMARY KEY (id, timestamp));
CREATE TABLE users (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE packages (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE users_messages (user_id INTEGER NOT NULL, msg_id INTEGER NOT NULL, msg_timestamp TIMESTAMP NOT NULL);
CREATE TABLE packages_messages (package_id INTEGER NOT NULL, msg_id INTEGER NOT NULL, msg_timestamp TIMESTAMP NOT NULL)
"""


class Published:
    """A database of the published datanommer.

    Args:
        url: The URL of an empty database.
        release: ``0.9`` or ``1.x``.
    """

    def __init__(self, url: str, release: str) -> None:
        self.url = url
        self.release = release
        self.engine = sa.create_engine(url)
        is_sqlite = self.engine.dialect.name == "sqlite"
        words = {"serial": "INTEGER PRIMARY KEY" if is_sqlite else "SERIAL PRIMARY KEY",
                 "time": "DATETIME" if is_sqlite else "TIMESTAMP"}  # fmt: skip
        with self.engine.begin() as connection:
            for statement in (_OLD if release == "0.9" else _NEW).split(";"):
                connection.execute(sa.text(statement.format(**words)))

    def fill(self, count: int, first: int = 1, **changes: Any) -> None:
        """Add messages with the ids from one on, about two users and a package."""
        rows = [{**self._row(number), **changes} for number in range(first, first + count)]
        columns = list(rows[0])
        marks = [f":{name}" for name in columns]
        with self.engine.begin() as connection:
            statement = f"INSERT INTO messages ({', '.join(columns)}) VALUES ({', '.join(marks)})"
            connection.execute(sa.text(statement), rows)
            (self._name_old if self.release == "0.9" else self._name_new)(connection, rows)

    def _row(self, number: int) -> dict[str, Any]:
        msg = json.dumps({"n": number, "text": "zwölf"})
        row = {
            "id": number, "msg_id": f"2020-{number}", "i": number % 7,
            "topic": f"org.fedoraproject.prod.git.{number % 3}",
            "timestamp": START + dt.timedelta(seconds=number), "certificate": "cert", "signature": "sig",
            "category": "git", "crypto": "x509", "source_name": "datanommer", "source_version": "0.9.1",
        }  # fmt: skip
        if self.release == "0.9":
            return {**row, "username": "apache", "_msg": msg, "_headers": None}
        return {**row, "agent_name": "ralph", "msg": msg, "headers": None}

    @staticmethod
    def _name_old(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        users = [{"name": name, "id": row["id"]} for row in rows for name in ("ralph", f"user{row['id'] % 5}")]
        connection.execute(sa.text("INSERT INTO user_messages (username, msg) VALUES (:name, :id)"), users)
        packages = [{"name": "kernel", "id": row["id"]} for row in rows]
        connection.execute(sa.text("INSERT INTO package_messages (package, msg) VALUES (:name, :id)"), packages)

    @staticmethod
    def _name_new(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        names = [{"id": n, "name": name} for n, name in enumerate(["ralph", *(f"user{n}" for n in range(5))], 1)]
        connection.execute(sa.text("INSERT INTO users (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING"), names)
        connection.execute(sa.text("INSERT INTO packages (id, name) VALUES (1, 'kernel') ON CONFLICT DO NOTHING"))
        users = [{**row, "user": user} for row in rows for user in (1, 2 + row["id"] % 5)]
        connection.execute(sa.text("INSERT INTO users_messages VALUES (:user, :id, :timestamp)"), users)
        connection.execute(sa.text("INSERT INTO packages_messages VALUES (1, :id, :timestamp)"), rows)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
