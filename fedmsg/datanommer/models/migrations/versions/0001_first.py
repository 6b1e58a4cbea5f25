# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make the tables."""

from __future__ import annotations

from alembic import op

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
    "sqlite": f"CREATE TABLE messages (id INTEGER PRIMARY KEY, timestamp DATETIME NOT NULL, {_COLUMNS})",
    "postgresql": f"""CREATE TABLE messages (
        timestamp TIMESTAMP NOT NULL, id BIGINT NOT NULL DEFAULT nextval('messages_id_seq'), {_COLUMNS},
        CONSTRAINT messages_pkey PRIMARY KEY (timestamp, id)) PARTITION BY RANGE (timestamp)""",
}
_TYPES = {
    "sqlite": {
        "json": "JSON",
        "time": "DATETIME",
        "serial": "INTEGER PRIMARY KEY",
        "big": "INTEGER",
        "clustered": "WITHOUT ROWID",
    },
    "postgresql": {
        "json": "JSONB",
        "time": "TIMESTAMP",
        "serial": "SERIAL PRIMARY KEY",
        "big": "BIGINT",
        "clustered": "",
    },
}
_INDEXES = """
CREATE INDEX ix_messages_topic ON messages (topic, timestamp, id);
CREATE INDEX ix_messages_category ON messages (category, timestamp, id);
CREATE INDEX ix_messages_agent_name ON messages (agent_name, timestamp, id);
CREATE INDEX ix_messages_position ON messages (position);
"""
_OTHERS = """
CREATE TABLE users (id {serial}, name TEXT NOT NULL UNIQUE);
CREATE TABLE packages (id {serial}, name TEXT NOT NULL UNIQUE);
CREATE TABLE topics (id {serial}, topic TEXT NOT NULL UNIQUE, category TEXT NOT NULL);
CREATE TABLE users_messages (user_id INTEGER NOT NULL, msg_timestamp {time} NOT NULL, msg_id {big} NOT NULL,
    topic_id INTEGER, PRIMARY KEY (user_id, msg_timestamp, msg_id)) {clustered};
CREATE INDEX ix_users_messages_message ON users_messages (msg_id);
CREATE TABLE packages_messages (package_id INTEGER NOT NULL, msg_timestamp {time} NOT NULL, msg_id {big} NOT NULL,
    topic_id INTEGER, PRIMARY KEY (package_id, msg_timestamp, msg_id)) {clustered};
CREATE INDEX ix_packages_messages_message ON packages_messages (msg_id);
CREATE TABLE message_counts (topic_id INTEGER NOT NULL, hour {time} NOT NULL, count {big} NOT NULL,
    PRIMARY KEY (topic_id, hour)) {clustered};
CREATE TABLE message_positions (id INTEGER PRIMARY KEY, newest {big} NOT NULL);
INSERT INTO message_positions (id, newest) VALUES (1, 0);
CREATE TABLE stream_cursors (name TEXT PRIMARY KEY, stream TEXT NOT NULL, position {big} NOT NULL);
CREATE TABLE service_cursors (service TEXT PRIMARY KEY, seq_id {big} NOT NULL);
"""


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


def downgrade() -> None:
    """Remove the tables."""
    for table in ("messages", "users", "packages", "topics", "users_messages", "packages_messages", "message_counts",
                  "message_positions", "stream_cursors", "service_cursors"):  # fmt: skip
        op.execute(f"DROP TABLE {table}")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP SEQUENCE messages_id_seq")
