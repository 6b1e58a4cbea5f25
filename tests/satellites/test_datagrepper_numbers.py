# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charts, histograms and facets: the same numbers as counting by hand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from fedmsg._util import plugins
from fedmsg.datagrepper import arguments
from fedmsg.datagrepper.app import create_app
from fedmsg.datanommer import models
from fedmsg.datanommer.models.testing import empty
from tests.satellites.messages import message

DAY = 86400
# The middle of a day, so that there are parts of days at both ends.
BEGIN = 20_000 * DAY + 43_000
STEP = 7001
COUNT = 120
CATEGORIES = ("bodhi", "git", "<b>&'\"")


def category(number: int) -> str:
    return CATEGORIES[0] if number % 2 else CATEGORIES[1 + (number % 4 == 0)]


@pytest.fixture(scope="module")
def client(history_engine: sa.Engine) -> Iterator[FlaskClient]:
    models.add_many(
        message(f"org.fedoraproject.prod.{category(n)}.x", timestamp=BEGIN + n * STEP, msg_id=f"2024-{n:04}", msg=n)
        for n in range(COUNT)
    )
    for number in range(COUNT):
        found = models.Message.from_msg_id(f"2024-{number:04}")
        assert found is not None
        found.agent_name = f"user{number % 3}"
        found.users = [models.User.get_or_create(name) for name in {f"user{number % 3}", "toshio"}]
        found.packages = [models.Package.get_or_create(f"pkg{number % 5}")]
    models.session.commit()
    models.session.remove()
    yield create_app({}).test_client()
    empty(history_engine)


def get(client: FlaskClient, path: str, **arguments: Any) -> Any:
    response = client.get(path, query_string=arguments)
    assert response.status_code == 200, response.text
    return response.json


def by_hand(bucket: int, first: int, last: int, wanted: Any) -> dict[int, int]:
    times = [BEGIN + n * STEP for n in range(COUNT) if wanted(n)]
    return dict(Counter(moment // bucket * bucket for moment in times if first <= moment <= last))


@pytest.mark.parametrize("bucket", [3600, DAY, 2 * DAY, 7 * DAY])
@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, lambda _: True),
        ({"category": "bodhi"}, lambda n: n % 2),
        ({"not_category": "bodhi"}, lambda n: n % 2 == 0),
        ({"topic": "*.git.*"}, lambda n: n % 4 == 2),
        ({"user": "user1"}, lambda n: n % 3 == 1),
        ({"package": "pkg2", "category": "bodhi"}, lambda n: n % 5 == 2 and n % 2),
        ({"where": "msg<50"}, lambda n: n < 50),
        ({"topic": "*nothing*"}, lambda _: False),
    ],
)
def test_histogram(client: FlaskClient, bucket: int, filters: dict[str, str], wanted: Any) -> None:
    first, last = BEGIN + 3 * STEP, BEGIN + (COUNT - 5) * STEP
    answer = get(client, "/histogram", start=first, end=last, bucket=bucket, **filters)
    (series,) = answer["series"]
    assert series["name"] == ""
    counts = {time: count for time, count in zip(answer["times"], series["counts"], strict=True) if count}
    assert counts == by_hand(bucket, first, last, wanted)
    assert answer["total"] == sum(counts.values())
    assert answer["bucket"] == bucket


@pytest.mark.parametrize("bucket", [3600 * 6, DAY])
@pytest.mark.parametrize("split_on", ["categories", "topics", "users", "packages", "agents"])
def test_histogram_by_facet(client: FlaskClient, split_on: str, bucket: int) -> None:
    answer = get(client, "/histogram", start=BEGIN, end=BEGIN + COUNT * STEP, bucket=bucket, split_on=split_on)
    totals = {series["name"]: sum(series["counts"]) for series in answer["series"]}
    facets = get(client, "/facets", start=BEGIN, end=BEGIN + COUNT * STEP, facet=split_on)
    assert totals == {one["name"]: one["count"] for one in facets[split_on]}
    assert totals


def test_histogram_without_a_time_begins_with_the_first_message(client: FlaskClient) -> None:
    answer = get(client, "/histogram", category="git")
    assert answer["start"] == BEGIN + 2 * STEP
    assert answer["total"] == COUNT // 4
    assert len(answer["times"]) <= 61
    nothing = get(client, "/histogram", category="nothing")
    assert nothing["total"] == 0


def test_histogram_has_no_end_of_buckets(client: FlaskClient) -> None:
    response = client.get("/histogram?start=0&bucket=1")
    assert (response.status_code, response.json["argument"]) == (400, "bucket")  # type: ignore[index]


def test_facets(client: FlaskClient) -> None:
    answer = get(client, "/facets", start=BEGIN)
    assert answer["categories"] == [
        {"name": "bodhi", "count": 60}, {"name": CATEGORIES[2], "count": 30}, {"name": "git", "count": 30},
    ]  # fmt: skip
    assert answer["users"][0] == {"name": "toshio", "count": COUNT}
    assert {one["count"] for one in answer["packages"]} == {24}
    assert len(answer["topics"]) == len(answer["agents"]) == 3


def test_facets_are_completed(client: FlaskClient) -> None:
    assert [one["name"] for one in get(client, "/facets", start=BEGIN, facet="users", prefix="us")["users"]] == [
        "user0", "user1", "user2",
    ]  # fmt: skip
    assert get(client, "/facets", start=BEGIN, facet="users", prefix="%")["users"] == []
    assert list(get(client, "/facets", start=BEGIN, facet="users,topics", limit=1)) == [
        "start",
        "end",
        "users",
        "topics",
    ]
    some = get(client, "/facets", start=BEGIN, user="user1", category="bodhi", facet="packages")["packages"]
    assert sum(one["count"] for one in some) == sum(1 for n in range(COUNT) if n % 3 == 1 and n % 2)


# ---------------------------------------------------------------- charts


def legends(svg: bytes) -> list[str]:
    ET.fromstring(svg)
    return re.findall(r'<g id="activate-serie-\d+"[^>]*>.*?<text[^>]*>([^<]*)</text>', svg.decode(), re.DOTALL)


@pytest.mark.parametrize("kind", arguments.CHARTS)
def test_charts(client: FlaskClient, kind: str) -> None:
    response = client.get(f"/charts/{kind}?start={BEGIN}&end={BEGIN + COUNT * STEP}&split_on=categories&fill=yes&N=3")
    assert (response.status_code, response.mimetype) == (200, "image/svg+xml")
    assert legends(response.data) == ["bodhi", "&lt;b&gt;&amp;'\"", "git"]
    for forbidden in (b"<script", b"<b>", b"http://kozea", b".js"):
        assert forbidden not in response.data
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("kind", arguments.CHARTS)
def test_a_chart_of_little_is_drawn(kind: str) -> None:
    """What made the library look for a scale for ever, or divide by nothing."""
    charts = plugins.lazy("charts")
    given = arguments.parse("/charts/{kind}", [])
    for counts in ([0, 0, 0], [1, 1, 1], [10**9, 0, 1]):
        for more in ({}, {"logarithmic": True}, {"interpolation": "lagrange"}, {"width": 50, "height": 50}):
            drawn = charts.draw(kind, {**given, **more}, [1.7e9, 1.8e9, 1.9e9], {"a": counts, "b": counts})
            ET.fromstring(drawn)


@pytest.mark.parametrize("kind", arguments.CHARTS)
def test_a_chart_without_series_is_drawn(client: FlaskClient, kind: str) -> None:
    for query in ("split_on=users", "split_on=packages&logarithmic=yes", "split_on=topics&category=nothing"):
        response = client.get(f"/charts/{kind}?end={BEGIN - DAY}&{query}")
        assert (response.status_code, legends(response.data)) == (200, []), query


def test_chart_series_are_combinations(client: FlaskClient) -> None:
    response = client.get(
        f"/charts/bar?start={BEGIN}&end={BEGIN + COUNT * STEP}&split_on=categories&split_on=users"
        "&category=bodhi&category=git&user=user0&user=user1&human_readable=no&title=Updates"
    )
    assert legends(response.data) == [
        "bodhi &amp; user0", "bodhi &amp; user1", "git &amp; user0", "git &amp; user1"
    ]  # fmt: skip
    assert b"Updates" in response.data
    assert legends(client.get(f"/charts/bar?start={BEGIN}").data) == ["events"]


@pytest.mark.parametrize(
    "path", ["/charts/nothing", "/charts/line?style=nothing", "/charts/line?interpolation=nothing", "/charts/"]
)
def test_what_no_chart_has_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "query", ["N=2", "N=16", "width=49", "height=4001", "fill=perhaps", "split_on=user", "title=a%00b"]
)
def test_a_bad_argument_of_a_chart(client: FlaskClient, query: str) -> None:
    response = client.get(f"/charts/line?{query}")
    assert (response.status_code, response.json["argument"]) == (400, query.partition("=")[0])  # type: ignore[index]


def test_charts_take_styles_and_interpolations(client: FlaskClient) -> None:
    for query in ("style=dark_solarized", "style=DarkSolarizedStyle", "interpolation=cubic", "logarithmic=true",
                  "show_dots=0&show_x_labels=off", "contains=1"):  # fmt: skip
        assert client.get(f"/charts/line?start={BEGIN}&{query}").status_code == 200, query


def test_a_chart_has_a_limit_to_its_series(client: FlaskClient) -> None:
    users = "&".join(f"user=u{number}" for number in range(60))
    response = client.get(f"/charts/line?split_on=users&{users}")
    assert (response.status_code, response.json["argument"]) == (400, "split_on")  # type: ignore[index]
