# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test base classes for plugin authors tell good from bad."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import Any

import pytest

import fedmsg.meta
import fedmsg.testing
import fedmsg.tests.test_meta
from fedmsg.testing import meta
from tests.unit.plugins import CONFIG, answering, envelope, make

SAID: dict[str, Any] = {
    "title": "title", "subtitle": "subtitle", "long_form": "long", "link": "link", "icon": "icon",
    "secondary_icon": "second", "usernames": {"ann"}, "agent": "ann", "packages": {"p"}, "objects": {"o"},
    "emails": {"ann": "a@x"}, "avatars": {"ann": "http://x"},
}  # fmt: skip
# Only the subtitle has another name.
EXPECTED = {"expected_subti" if name == "subtitle" else f"expected_{name}": value for name, value in SAID.items()}


@pytest.fixture(autouse=True)
def _processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plugin = make(
        "shop",
        subjective=lambda self, msg, subject, **config: "you" if subject == "ann" else "",
        **{name: answering(value) for name, value in SAID.items()},
    )
    monkeypatch.setattr(fedmsg.meta, "processors", [plugin])
    yield
    fedmsg.meta.counts.clear()


def outcomes(base: type, **members: Any) -> dict[str, list[str]]:
    """Run the tests of a class, and give their names by outcome."""
    kind: Any = type("Test", (base,), members)
    result = unittest.TestResult()
    names = unittest.defaultTestLoader.getTestCaseNames(kind)
    unittest.TestSuite(map(kind, names)).run(result)
    assert result.errors == []
    skipped = [test._testMethodName for test, _ in result.skipped]
    failed = sorted({test.id().split(".")[-1].split(" ")[0] for test, _ in result.failures})
    return {"skipped": skipped, "failed": failed, "good": sorted({*names} - {*skipped} - {*failed})}


def methods_for(*names: str) -> list[str]:
    return sorted(f"test_{name}" for name in names)


def test_what_is_expected_is_good() -> None:
    subjective = {"ann": "you", "bob": "subtitle"}
    found = outcomes(meta.Base, msg=envelope("shop.x"), expected_subjective=subjective, **EXPECTED)
    assert found == {"skipped": [], "failed": [], "good": methods_for("subjective", *SAID)}


def test_what_is_not_expected_is_bad() -> None:
    found = outcomes(
        meta.Base, msg=envelope("shop.x"), expected_subjective={"ann": "x"}, **dict.fromkeys(EXPECTED, "other")
    )
    assert found == {"skipped": [], "failed": methods_for("subjective", *SAID), "good": []}


def test_what_is_not_said_is_skipped() -> None:
    found = outcomes(meta.Base, msg=envelope("shop.x"), expected_title="title")
    assert (found["good"], found["failed"]) == (["test_title"], [])
    assert outcomes(meta.Base)["skipped"] == methods_for("subjective", *SAID)
    assert outcomes(meta.ConglomerateBase)["skipped"] == ["test_conglomerate"]


@pytest.mark.parametrize(("subtitle", "outcome"), [("subtitle", "good"), ("other", "failed")])
def test_groups(subtitle: str, outcome: str) -> None:
    original = envelope("shop.x", msg_id="1", timestamp=1)
    (expected,) = fedmsg.meta.conglomerate([original], "ann", **CONFIG)
    assert expected["subjective"] == "you"
    expected = {**expected, "msg_ids": "not compared", "subtitle": subtitle}
    found = outcomes(meta.ConglomerateBase, originals=[original], expected=[expected], subject="ann")
    assert found[outcome] == ["test_conglomerate"]


def test_the_configuration() -> None:
    test = type("Test", (meta.Base,), {})("test_title")
    test.setUp()
    assert test.config["topic_prefix"] == "org.fedoraproject"
    assert test.config["topic_prefix_re"] == r"^org\.fedoraproject\.(dev|stg|prod)"


def test_unspecified_is_one_and_says_so() -> None:
    assert repr(meta.Unspecified) == "Unspecified"
    assert not meta.Unspecified


@pytest.mark.parametrize("name", ["Base", "ConglomerateBase", "Unspecified", "skip_on"])
def test_the_names_are_the_same_everywhere(name: str) -> None:
    assert getattr(fedmsg.testing, name) is getattr(meta, name)
    assert getattr(fedmsg.tests.test_meta, name) is getattr(meta, name)
