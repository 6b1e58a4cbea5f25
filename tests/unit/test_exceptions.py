# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree of errors: what callers of fedmsg 1.x catch still catches, and each has its exit status."""

from __future__ import annotations

import pytest

from fedmsg import exceptions
from fedmsg.exceptions import FedmsgError


@pytest.mark.parametrize(
    ("error", "caught_as", "status"),
    [
        (exceptions.UsageError("x"), ValueError, 2),
        (exceptions.ConfigError("x"), ValueError, 5),
        (exceptions.MissingEndpoint("x"), KeyError, 5),
        (exceptions.MissingReplayEndpoint("x"), KeyError, 5),
        (exceptions.MissingReplayEndpoint("x"), IOError, 5),
        (exceptions.QueryError("x"), ValueError, 70),
        (exceptions.PositionGone("x"), ValueError, 1),
        (exceptions.NotConfirmed("x", {}, sent=False), IOError, 3),
        (exceptions.NotConfirmed("x", {}, sent=True), IOError, 4),
        (exceptions.RejectedByRelay("x", {}), ValueError, 1),
        (exceptions.PositionGone("x"), LookupError, 1),
        (exceptions.StoreError("x"), IOError, 3),
        (exceptions.MissingExtra("x", "y"), ImportError, 5),
        (exceptions.RefusedAtStart("x"), IOError, 7),
        (exceptions.MessageError("x"), ValueError, 70),
        (exceptions.ValidationError({}), IOError, 70),
        (exceptions.TransportError("x"), IOError, 3),
        (exceptions.NotListening("x"), IOError, 3),
        (exceptions.PossiblyLost(1, "x"), IOError, 4),
        (exceptions.AddressInUse("x"), IOError, 6),
        (exceptions.HttpError("x"), IOError, 3),
        (exceptions.WorkLeft("x"), IOError, 8),
    ],
)
def test_each_error(error: FedmsgError, caught_as: type[Exception], status: int) -> None:
    assert isinstance(error, FedmsgError)
    assert isinstance(error, caught_as)
    assert error.exit_status == status
    assert "\n" not in str(error)


def test_a_key_error_of_ours_shows_its_text_without_quotes() -> None:
    assert str(exceptions.MissingEndpoint("no address")) == "no address"


def test_a_missing_library_says_how_to_get_it() -> None:
    assert str(exceptions.MissingExtra("a YAML file", "commands")) == (
        "a YAML file needs fedmsg[commands]: pip install 'fedmsg[commands]'"
    )


def test_a_validation_error_keeps_the_message() -> None:
    assert exceptions.ValidationError({"topic": "x"}).msg == {"topic": "x"}
    assert exceptions.ValidationError({}).kind == "invalid"


def test_everything_public_is_in_the_tree() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), FedmsgError)
