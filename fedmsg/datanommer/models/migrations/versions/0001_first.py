# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the tables."""

from __future__ import annotations

import logging

from alembic import op
from sqlalchemy import exc

log = logging.getLogger("fedmsg.datanommer")

revision = "0001"
down_revision = None

# Of messages; the kinds of databases differ in what comes before and after these columns.
_COLUMNS = """
    msg_id TEXT NOT NULL,
    i BIGINT,
    topic TEXT NOT NULL,
    certificate TEXT,
    signature TEXT,
    category TEXT NOT NULL,
    username TEXT,
    agent_name TEXT,
    crypto TEXT,
    source_name TEXT,
    source_version TEXT,
    msg {json},
    headers {json},
    seq_id BIGINT,
    position BIGINT,
    original TEXT,
    is_time_of_arrival BOOLEAN NOT NULL DEFAULT FALSE,
    CONSTRAINT uq_messages_msg_id UNIQUE (msg_id, timestamp)
"""
_MESSAGES = {
    "sqlite": f"CREATE TABLE messages (id INTEGER NOT NULL PRIMARY KEY, timestamp DATETIME NOT NULL, {_COLUMNS})",
    "postgresql": f"""CREATE TABLE messages (
        timestamp TIMESTAMP NOT NULL, id BIGINT NOT NULL DEFAULT nextval('messages_id_seq'), {_COLUMNS},
        CONSTRAINT messages_pkey PRIMARY KEY (timestamp, id)) PARTITION BY RANGE (timestamp)""",
}
_TYPES = {
    "sqlite": {
        "json": "JSON", "time": "DATETIME", "serial": "INTEGER NOT NULL PRIMARY KEY", "big": "INTEGER",
        "clustered": "WITHOUT ROWID", "include_topic": "", "include_count": "",
    },
    "postgresql": {
        "json": "JSONB", "time": "TIMESTAMP", "serial": "SERIAL PRIMARY KEY", "big": "BIGINT",
        "clustered": "", "include_topic": "INCLUDE (topic_id)", "include_count": "INCLUDE (count)",
    },
}  # fmt: skip
_INDEXES = """
CREATE INDEX ix_messages_topic ON messages (topic, timestamp, id);
CREATE INDEX ix_messages_category ON messages (category, timestamp, id);
CREATE INDEX ix_messages_agent_name ON messages (agent_name, timestamp, id, topic);
CREATE INDEX ix_messages_position ON messages (position);
"""
_OTHERS = """
CREATE TABLE users (id {serial}, name TEXT NOT NULL UNIQUE);
CREATE TABLE packages (id {serial}, name TEXT NOT NULL UNIQUE);
CREATE TABLE topics (id {serial}, topic TEXT NOT NULL UNIQUE, category TEXT NOT NULL);
CREATE TABLE users_messages (user_id INTEGER NOT NULL, msg_timestamp {time} NOT NULL, msg_id {big} NOT NULL,
    topic_id INTEGER, CONSTRAINT users_messages_pkey PRIMARY KEY (user_id, msg_timestamp, msg_id) {include_topic}
    ) {clustered};
CREATE INDEX ix_users_messages_msg_timestamp ON users_messages (msg_timestamp, msg_id, user_id);
CREATE TABLE packages_messages (package_id INTEGER NOT NULL, msg_timestamp {time} NOT NULL, msg_id {big} NOT NULL,
    topic_id INTEGER, CONSTRAINT packages_messages_pkey PRIMARY KEY (package_id, msg_timestamp, msg_id) {include_topic}
    ) {clustered};
CREATE INDEX ix_packages_messages_msg_timestamp ON packages_messages (msg_timestamp, msg_id, package_id);
CREATE TABLE day_counts (topic_id INTEGER NOT NULL, start {time} NOT NULL, count {big} NOT NULL,
    CONSTRAINT day_counts_pkey PRIMARY KEY (topic_id, start) {include_count}) {clustered};
CREATE TABLE month_counts (topic_id INTEGER NOT NULL, start {time} NOT NULL, count {big} NOT NULL,
    CONSTRAINT month_counts_pkey PRIMARY KEY (topic_id, start) {include_count}) {clustered};
CREATE TABLE message_positions (id INTEGER NOT NULL PRIMARY KEY, newest {big} NOT NULL);
INSERT INTO message_positions (id, newest) VALUES (1, 0);
CREATE TABLE waiting_texts (first_id {big} NOT NULL PRIMARY KEY, last_id {big} NOT NULL, first_time {time} NOT NULL,
    last_time {time} NOT NULL);
CREATE TABLE stream_cursors (name TEXT NOT NULL PRIMARY KEY, stream TEXT NOT NULL, position {big} NOT NULL);
CREATE TABLE service_cursors (service TEXT NOT NULL PRIMARY KEY, seq_id {big} NOT NULL);
"""

# Where the database has an index by three characters in a row.
_TEXTS = {
    "sqlite": ["CREATE VIRTUAL TABLE message_texts USING fts5(msg, content='', tokenize='trigram', detail=none)"],
    "postgresql": [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        """CREATE TABLE message_texts (msg_timestamp TIMESTAMP NOT NULL, msg_id BIGINT NOT NULL, topic_id INTEGER,
            text TEXT, PRIMARY KEY (msg_timestamp, msg_id))""",
        # Long texts go elsewhere, so that what is counted stays small.
        "ALTER TABLE message_texts SET (toast_tuple_target = 128)",
        "CREATE INDEX ix_message_texts_topic_id ON message_texts (topic_id, msg_timestamp)",
        """CREATE INDEX ix_message_texts_text ON message_texts USING gin (text gin_trgm_ops)
            WITH (gin_pending_list_limit = 16384)""",
    ],
}
_TABLES = """messages users packages topics users_messages packages_messages day_counts month_counts message_positions
    waiting_texts stream_cursors service_cursors"""


def upgrade() -> None:
    """Make the tables of the first version."""
    dialect = op.get_bind().dialect.name
    statements = [_MESSAGES[dialect], *_INDEXES.split(";"), *_OTHERS.split(";")]
    if dialect == "postgresql":
        statements[:0] = ["CREATE SEQUENCE messages_id_seq"]
    else:
        statements.append("CREATE INDEX ix_messages_timestamp ON messages (timestamp, id)")
    for statement in statements:
        if statement.strip():
            op.execute(statement.format(**_TYPES[dialect]))
    try:
        with op.get_bind().begin_nested():
            for statement in _TEXTS[dialect]:
                op.execute(statement)
    # It is older than this kind of index, the extension is not installed, or may not be made by this user.
    except exc.DBAPIError as error:
        log.warning("Searching texts will be slow, since they can't be indexed: %s", str(error.orig).splitlines()[0])


def downgrade() -> None:
    """Remove the tables."""
    for table in _TABLES.split():
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TABLE IF EXISTS message_texts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP SEQUENCE messages_id_seq")
