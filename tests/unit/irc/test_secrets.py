# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords in the setting ``irc``: no error shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmsg import config
from fedmsg.config import settings
from fedmsg.consumers.ircbot import read_all
from fedmsg.exceptions import ConfigError

SECRET = "open sesame"


@pytest.mark.parametrize(
    "irc",
    [
        {"channel": "x", "nickserv_password": SECRET},
        [{"channel": "x"}, [SECRET]],
        SECRET,
        [{"channel": "x", "server_password": SECRET}],
        [{"channel": "x", "channel_key": SECRET}],
        [{"channel": "x", "sasl_username": "a", "sasl_password": SECRET + "\n"}],
        [{"channel": "x", "nickserv_password": [SECRET]}],
        [{"channel": "x", "nickserv_password": SECRET, "port": "none"}],
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_irc_errors_never_show_a_password(irc: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_all({"irc": irc})
    assert SECRET not in str(caught.value)
    file = tmp_path / "irc.py"
    file.write_text(f"config = {{'irc': {irc!r}}}\n", encoding="utf-8")
    try:
        config.load_config([], None, filenames=[str(file)], invalidate_cache=True)
    except ConfigError as error:
        assert SECRET not in str(error)  # noqa: PT017 some of these pass here


def test_irc_is_a_secret_setting() -> None:
    assert settings.TABLE["irc"].secret
