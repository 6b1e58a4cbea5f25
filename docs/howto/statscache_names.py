# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of statscache, for plugins that import them."""

from __future__ import annotations

import sys

from fedmsg.statscache import plugins, utils

sys.modules["statscache.plugins"] = plugins
sys.modules["statscache.plugins.models"] = plugins.models
sys.modules["statscache.plugins.schedule"] = plugins.schedule
sys.modules["statscache.utils"] = utils
