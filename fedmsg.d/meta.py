# SPDX-License-Identifier: LGPL-2.1-or-later
"""How messages are put into words, by fedmsg-tail --terse and whatever else shows them to people."""

from __future__ import annotations

config = {
    # Folders and YAML files that declare, without code, how the messages of an application are put into words.
    # docs/howto/words.yaml is such a file, to be copied and changed.
    #     "meta_processors": ["/etc/fedmsg.meta.d"],
}
