# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plugins as they were published run in a hub of ours, and have the numbers of a recount."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from fedmsg.testing import wait_until
from tests import requirements
from tests.hubs import Feed
from tests.satellites.numbers import hub_process


@pytest.fixture
def published(peer: Path, repository: Path, tmp_path: Path) -> Path:
    """Return a folder that has the published plugins, and the names that they import."""
    source = peer.parent / "statistics"
    if not (source / "statscache_plugins").exists():
        requirements.is_missing(f"statscache-plugins in {source} (make test, which installs it there)")
    folder = tmp_path / "hub"
    shutil.copytree(source, folder)
    (folder / "statscache").mkdir()
    # As the how-to has it.
    shutil.copy(repository / "docs" / "howto" / "statscache_names.py", folder / "statscache" / "__init__.py")
    return folder


def test_published_plugins_have_the_numbers_of_a_recount(published: Path, database_url: str) -> None:
    engine = sa.create_engine(database_url)

    def read(statement: str) -> list[tuple[str, int]]:
        try:
            with engine.connect() as connection:
                return [(str(name), int(number)) for name, number in connection.execute(sa.text(statement))]
        except sa.exc.DBAPIError:
            return []

    by_category = "SELECT category, sum(volume) FROM data_volume_by_category_1m GROUP BY category"
    wanted: Counter[str] = Counter()
    with Feed() as feed:
        for round_ in range(2):
            # In the second round after a kill.
            with hub_process(published, database_url, feed.config).wait_ready() as hub:
                feed.wait()
                for number in range(60):
                    wanted[f"shop{number % 4}"] += 1
                    feed.send(f"shop{number % 4}.sold", {"round": round_})
                wait_until(lambda: sum(n for _, n in read(by_category)) >= wanted.total(), 60)
                hub.popen.kill()
                hub.wait()
            feed.wait_until_gone()
    assert dict(read(by_category)) == wanted
    assert read("SELECT 'all', sum(volume) FROM data_volume_1m") == [("all", wanted.total())]
    # It has the name of one of ours, which steps back; the others count.
    assert read("SELECT 'ours', sum(scalar) FROM stats_volume_1h") == [("ours", wanted.total())]
    engine.dispose()
