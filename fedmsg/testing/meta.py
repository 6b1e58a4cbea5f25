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


#: What a class has not said; a test that needs it is skipped.
Unspecified: Any = UnspecifiedType()


def skip_on(attributes: Iterable[str]) -> Callable[[_Test], _Test]:
    """Make a decorator for a test that is skipped where its class leaves something unsaid.

    Args:
        attributes: The attributes that it needs.
    """

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
    """Loads the processors that are installed.

    Attributes:
        config: The configuration that they are given.
    """

    maxDiff = None

    def setUp(self) -> None:
        """Make them."""
        self.config: dict[str, Any] = {
            **settings.defaults(),
            "topic_prefix": "org.fedoraproject",
            "topic_prefix_re": r"^org\.fedoraproject\.(dev|stg|prod)",
        }
        meta.make_processors(**self.config)


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
        msg: The message.
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

    @skip_on(["msg", "expected_title"])
    def test_title(self) -> None:
        """Check that fedmsg.meta returns the expected title."""
        self.assertEqual(meta.msg2title(self.msg, **self.config), self.expected_title)

    @skip_on(["msg", "expected_subti"])
    def test_subtitle(self) -> None:
        """Check that fedmsg.meta returns the expected subtitle."""
        self.assertEqual(meta.msg2subtitle(self.msg, **self.config), self.expected_subti)

    @skip_on(["msg", "expected_subjective"])
    def test_subjective(self) -> None:
        """Does fedmsg.meta say the expected to each subject."""
        for subject, expected in self.expected_subjective.items():
            with self.subTest(subject=subject):
                self.assertEqual(meta.msg2subjective(self.msg, subject=subject, **self.config), expected)

    @skip_on(["msg", "expected_long_form"])
    def test_long_form(self) -> None:
        """Check that fedmsg.meta returns the expected long form."""
        self.assertEqual(meta.msg2long_form(self.msg, **self.config), self.expected_long_form)

    @skip_on(["msg", "expected_link"])
    def test_link(self) -> None:
        """Check that fedmsg.meta returns the expected link."""
        self.assertEqual(meta.msg2link(self.msg, **self.config), self.expected_link)

    @skip_on(["msg", "expected_icon"])
    def test_icon(self) -> None:
        """Check that fedmsg.meta returns the expected icon."""
        self.assertEqual(meta.msg2icon(self.msg, **self.config), self.expected_icon)

    @skip_on(["msg", "expected_secondary_icon"])
    def test_secondary_icon(self) -> None:
        """Check that fedmsg.meta returns the expected second icon."""
        self.assertEqual(meta.msg2secondary_icon(self.msg, **self.config), self.expected_secondary_icon)

    @skip_on(["msg", "expected_usernames"])
    def test_usernames(self) -> None:
        """Check that fedmsg.meta returns the expected users."""
        self.assertEqual(meta.msg2usernames(self.msg, **self.config), self.expected_usernames)

    @skip_on(["msg", "expected_agent"])
    def test_agent(self) -> None:
        """Does fedmsg.meta name the expected agent."""
        self.assertEqual(meta.msg2agent(self.msg, **self.config), self.expected_agent)

    @skip_on(["msg", "expected_packages"])
    def test_packages(self) -> None:
        """Check that fedmsg.meta returns the expected packages."""
        self.assertEqual(meta.msg2packages(self.msg, **self.config), self.expected_packages)

    @skip_on(["msg", "expected_objects"])
    def test_objects(self) -> None:
        """Check that fedmsg.meta returns the expected objects."""
        self.assertEqual(meta.msg2objects(self.msg, **self.config), self.expected_objects)

    @skip_on(["msg", "expected_emails"])
    def test_emails(self) -> None:
        """Check that fedmsg.meta returns the expected mail addresses."""
        self.assertEqual(meta.msg2emails(self.msg, **self.config), self.expected_emails)

    @skip_on(["msg", "expected_avatars"])
    def test_avatars(self) -> None:
        """Check that fedmsg.meta returns the expected avatars."""
        self.assertEqual(meta.msg2avatars(self.msg, **self.config), self.expected_avatars)


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
        """Does fedmsg.meta make the expected groups."""
        groups = meta.conglomerate(list(self.originals), self.subject, **self.config)
        self.assertEqual(*([_without_ids(group) for group in one] for one in (groups, self.expected)))


def _without_ids(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "msg_ids"}
