# SPDX-License-Identifier: LGPL-2.1-or-later
"""Test base classes for those who write plugins for ``fedmsg.meta``."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fedmsg import meta
from fedmsg.config import settings

__all__ = ["Base", "ConglomerateBase", "Unspecified", "UnspecifiedType", "skip_on"]

_Test = TypeVar("_Test", bound=Callable[..., Any])


class UnspecifiedType:
    """The type of `Unspecified`."""

    def __repr__(self) -> str:
        return "Unspecified"

    def __bool__(self) -> bool:
        return False


#: What a class has not set; a test that needs it is skipped.
Unspecified: Any = UnspecifiedType()


def skip_on(attributes: Iterable[str]) -> Callable[[_Test], _Test]:
    """Return a decorator for a test that is skipped where its class does not set one of these attributes."""

    def decorate(test: _Test) -> _Test:
        @functools.wraps(test)
        def decorated(self: unittest.TestCase, *arguments: Any, **keywords: Any) -> Any:
            for name in attributes:
                if getattr(self, name) is Unspecified:
                    self.skipTest(f"{name!r} left unspecified")
            return test(self, *arguments, **keywords)

        return decorated  # type: ignore[return-value] # the same signature

    return decorate


class _WithProcessors(unittest.TestCase):
    """Loads the processors that are installed."""

    maxDiff = None

    def setUp(self) -> None:
        """Make them."""
        self.config: dict[str, Any] = {
            **settings.defaults(),
            "topic_prefix": "org.fedoraproject",
            "topic_prefix_re": r"^org\.fedoraproject\.(dev|stg|prod)",
        }
        meta.make_processors(**self.config)


def _compares(what: str, attribute: str = "") -> Callable[[Any], None]:
    """Return a test that compares what a function of fedmsg.meta returns with an attribute of the class."""
    attribute = attribute or f"expected_{what}"

    @skip_on(["msg", attribute])
    def test(self: Any) -> None:
        found = getattr(meta, f"msg2{what}")(self.msg, **self.config)
        self.assertEqual(found, getattr(self, attribute))

    test.__doc__ = f"Check that fedmsg.meta returns the {attribute.replace('_', ' ')}."
    return test


class Base(_WithProcessors):
    """Compares what is said of a message with what is expected, one test for each kind.

    ::

        class TestOrder(Base):
            '''An order was placed.'''

            msg = {"topic": "org.fedoraproject.prod.shop.order", "msg": {"user": "ann", "item": "lamp"}}
            expected_title = "shop.order"
            expected_subti = "ann ordered a lamp"
            expected_subjective = {"ann": "you ordered a lamp", "bob": "ann ordered a lamp"}
            expected_usernames = {"ann"}

    Attributes:
        expected_subjective: The text for each subject, as a dict.
    """

    msg: Any = Unspecified
    expected_title: Any = Unspecified
    expected_subti: Any = Unspecified
    expected_subjective: Any = Unspecified
    expected_long_form: Any = Unspecified
    expected_link: Any = Unspecified
    expected_icon: Any = Unspecified
    expected_secondary_icon: Any = Unspecified
    expected_usernames: Any = Unspecified
    expected_agent: Any = Unspecified
    expected_packages: Any = Unspecified
    expected_objects: Any = Unspecified
    expected_emails: Any = Unspecified
    expected_avatars: Any = Unspecified

    test_title = _compares("title")
    test_subtitle = _compares("subtitle", "expected_subti")
    test_long_form = _compares("long_form")
    test_link = _compares("link")
    test_icon = _compares("icon")
    test_secondary_icon = _compares("secondary_icon")
    test_usernames = _compares("usernames")
    test_agent = _compares("agent")
    test_packages = _compares("packages")
    test_objects = _compares("objects")
    test_emails = _compares("emails")
    test_avatars = _compares("avatars")

    @skip_on(["msg", "expected_subjective"])
    def test_subjective(self) -> None:
        """Check that fedmsg.meta returns the expected text for each subject."""
        for subject, expected in self.expected_subjective.items():
            with self.subTest(subject=subject):
                self.assertEqual(meta.msg2subjective(self.msg, subject=subject, **self.config), expected)


class ConglomerateBase(_WithProcessors):
    """Compares how messages are grouped with what is expected.

    Attributes:
        originals: The messages, a list.
        expected: The groups, a list; ``msg_ids`` is not compared.
        subject: The user who is spoken to.
    """

    originals: Any = Unspecified
    expected: Any = Unspecified
    subject: str | None = None

    @skip_on(["originals", "expected"])
    def test_conglomerate(self) -> None:
        """Check that fedmsg.meta makes the expected groups."""
        groups = meta.conglomerate(list(self.originals), self.subject, **self.config)
        self.assertEqual(*([_without_ids(group) for group in one] for one in (groups, self.expected)))


def _without_ids(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "msg_ids"}
