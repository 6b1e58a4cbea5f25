# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening a history, its migrations, and the fixtures for programs that use it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import orm

from fedmsg.datanommer import models
from fedmsg.exceptions import ConfigError, StoreError
from tests.satellites.messages import message
from tests.structure import source


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a session that was not opened yet."""
    session = orm.scoped_session(models.maker)
    monkeypatch.setattr(models, "session", session)
    yield
    session.remove()
    bound = models.maker.kw.get("bind")
    if isinstance(bound, sa.Engine):
        bound.dispose()


def test_init_needs_one_of_uri_and_engine(closed: None) -> None:
    for given in ({}, {"uri": "sqlite://", "engine": sa.create_engine("sqlite://")}):
        with pytest.raises(ValueError, match="uri or engine"):
            models.init(**given)  # type: ignore[arg-type]


def test_init_twice_warns_and_does_nothing(closed: None, sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    models.init(sqlite_url, create=True)
    models.add(message())
    with caplog.at_level(logging.WARNING):
        models.init("sqlite:///another.db")
    assert "does nothing" in caplog.text
    assert models.Message.grep()[0] == 1
    # Whether it was called hangs on the session.
    models.session.remove()
    models.session = orm.scoped_session(models.maker)
    caplog.clear()
    models.init(sqlite_url)
    assert "does nothing" not in caplog.text
    assert models.Message.query.count() == 1


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite+no://", "postgresql://h:99999/x", "oracle://x"])
def test_init_names_the_setting_of_a_bad_url(closed: None, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^datanommer\.sqlalchemy\.url: "):
        models.init(url)


def test_init_reports_a_database_that_is_not_there(closed: None, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be prepared"):
        models.init(f"sqlite:///{tmp_path}/no/folder/history.db", create=True)


def test_default_url_is_a_file_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert models.default_url() == f"sqlite:///{tmp_path}/datanommer.db"
    monkeypatch.delenv("STATE_DIRECTORY")
    with pytest.raises(ConfigError, match="state_directory"):
        models.default_url()


def test_init_takes_a_configuration_of_alembic_second(closed: None, sqlite_url: str, tmp_path: Path) -> None:
    """The one of the published datanommer names steps and a database that are not ours."""
    ini = tmp_path / "alembic.ini"
    ini.write_text(f"[alembic]\nscript_location = {tmp_path}/nothing\nsqlalchemy.url = sqlite:///{tmp_path}/other.db\n")
    models.init(sqlite_url, str(ini), create=True)
    models.add(message())
    assert models.Message.grep()[0] == 1
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize("text", [None, "no section", "[alembic]\nscript_location = %(nothing)s\n", "\udcff"])
def test_init_names_a_bad_configuration_of_alembic(
    closed: None, sqlite_url: str, text: str | None, tmp_path: Path
) -> None:
    ini = tmp_path / "alembic.ini"
    if text is not None:
        ini.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"^alembic_ini: .*alembic\.ini can't be read: .*leave it out$"):
        models.init(sqlite_url, alembic_ini=str(ini), create=True)
    # The control: without it there is no error.
    models.session.remove()
    models.session = orm.scoped_session(models.maker)
    models.init(sqlite_url, create=True)


def is_ours(name: str | None, _kind: str, parents: object) -> bool:
    """Leave out the index of texts, which not every database has."""
    return "message_texts" not in f"{name} {parents}"


def test_the_migrations_make_what_the_models_have(closed: None, database_url: str) -> None:
    models.init(database_url, create=True)
    engine = models.session.get_bind()
    assert isinstance(engine, sa.Engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "version_table": "datanommer_schema", "include_name": is_ours},
        )
        changes = compare_metadata(context, models.DeclarativeBase.metadata)
    # In PostgreSQL it is the primary key, which SQLite has for the id alone.
    assert [change for change in changes if getattr(change[1], "name", "") != "ix_messages_timestamp"] == []
    # A second time there is nothing to do.
    models.upgrade(engine)


def test_many_that_open_an_empty_database_at_once_make_the_tables_once(database_url: str) -> None:
    program = "import sys; from fedmsg.datanommer import models; models.init(sys.argv[1], create=True)"
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", program, database_url]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]


SHIM = source.REPOSITORY / "docs" / "howto" / "old_names.py"
OLD_PROGRAM = Path(__file__).with_name("old_program.py")


def test_a_program_of_the_published_datanommer_runs_unchanged(database_url: str, tmp_path: Path) -> None:
    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", *command], capture_output=True, text=True, check=False, cwd=tmp_path
        )

    done = run(SHIM, OLD_PROGRAM, database_url)
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr
    # The control: it has no other way to these names.
    assert "No module named 'datanommer'" in run(OLD_PROGRAM, database_url).stderr


TESTS_OF_A_PROGRAM = """
import datetime as dt

def test_one(datanommer_models):
    models = datanommer_models
    models.Message.create(topic="org.example.dev.shop.new", msg_id="1", i=1, msg={"a": 1}, users=["me"],
                          packages=["bash"], timestamp=dt.datetime(2020, 1, 1))
    models.session.commit()
    topics = ["org.example.dev.shop.new"]
    for filters in ({"users": ["me"], "categories": ["shop"]}, {"packages": ["bash"]}, {"topics": topics}):
        assert models.Message.grep(**filters)[0] == 1

def test_two(datanommer_models, datanommer_db):
    assert datanommer_models.Message.grep()[0] == 0
    assert datanommer_models.User.query.count() == 0
"""


def test_fixtures_for_programs(tmp_path: Path, database_url: str) -> None:
    url = f"@pytest.fixture(scope='session')\ndef datanommer_db_url():\n    return {database_url!r}\n"
    (tmp_path / "conftest.py").write_text(
        f"import pytest\npytest_plugins = ['fedmsg.datanommer.models.testing']\n{url}"
    )
    (tmp_path / "test_program.py").write_text(TESTS_OF_A_PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
