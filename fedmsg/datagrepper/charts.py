# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/charts``: counts of messages as SVG."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pygal
from pygal import interpolate
from pygal import style as styles

from fedmsg import meta
from fedmsg._util.text import xml_text

# A hook of pygal of a form that Python warns of at every later import; it is for maps alone.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "PluginImportFixer"]

__all__ = ["INTERPOLATIONS", "KINDS", "draw", "style_of"]

#: The kinds of chart.
KINDS: Mapping[str, Any] = {
    "line": pygal.Line, "stackedline": pygal.StackedLine, "xy": pygal.XY, "bar": pygal.Bar,
    "horizontalbar": pygal.HorizontalBar, "stackedbar": pygal.StackedBar,
    "horizontalstackedbar": pygal.HorizontalStackedBar, "funnel": pygal.Funnel, "pyramid": pygal.Pyramid,
    "verticalpyramid": pygal.VerticalPyramid, "dot": pygal.Dot, "gauge": pygal.Gauge,
}  # fmt: skip

_STYLES = {name.replace("_", ""): style for name, style in styles.styles.items()}

#: How lines can be drawn.
INTERPOLATIONS = tuple(sorted(interpolate.INTERPOLATIONS))
_STEPS = [factor * 10**power for power in range(19) for factor in (1, 2, 5)]


def style_of(name: str) -> Any:
    """Return a style by its name; None where there is none."""
    return _STYLES.get(name.lower().replace("_", "").removesuffix("style"))


def draw(kind: str, given: Mapping[str, Any], ends: Sequence[float], series: Mapping[str, Sequence[int]]) -> bytes:
    """Draw a chart.

    Args:
        kind: The kind of chart.
        given: The arguments of the request.
        ends: The ends of the windows, as times.
        series: How many messages are in each window, by name.
    """
    now = time.time()
    options = ("width", "height", "logarithmic", "show_x_labels", "show_y_labels", "show_dots", "fill", "interpolate")
    # There is no logarithm of nothing, and no scale without a number.
    is_logarithmic = given["logarithmic"] and any(any(counts) for counts in series.values())
    chosen = {**given, "interpolate": given["interpolation"], "logarithmic": is_logarithmic}
    chart = KINDS[kind](
        title=xml_text(given["title"]),
        style=style_of(given["style"]),
        # Nothing is loaded from elsewhere, and no script is in it.
        js=[],
        no_prefix=False,
        disable_xml_declaration=False,
        formatter=_short if given["human_readable"] else str,
        x_label_rotation=45,
        **{name: chosen[name] for name in options if chosen[name] is not None},
    )
    # Where nothing is drawn there is no axis.
    if series:
        # Left to itself, pygal may look for a scale for ever.
        chart.y_labels = _scale(_highest(kind, series), is_logarithmic)
        chart.range = (chart.y_labels[0], chart.y_labels[-1])
        chart.x_labels = [meta.ago(end, now) for end in ends]
    for name, counts in series.items():
        points: Sequence[Any] = counts
        if kind == "xy":
            points = list(zip(ends, counts, strict=True))
        if is_logarithmic:
            points = [point if count else None for point, count in zip(points, counts, strict=True)]
        chart.add(xml_text(name), points)
    drawn: bytes = chart.render()
    return _without_scripts(drawn)


def _highest(kind: str, series: Mapping[str, Sequence[int]]) -> int:
    counts = [list(counts) for counts in series.values()]
    if "stacked" in kind or kind.endswith("pyramid"):
        return sum(map(max, counts))
    return max(map(max, counts))


def _scale(most: int, logarithmic: bool) -> list[float]:
    """Return the numbers at the side of a chart, at most a dozen."""
    if logarithmic:
        found, number = [1.0], 10.0
        while number <= most:
            found.append(number)
            number *= 10
        return [*found, number]
    step = next(step for step in _STEPS if step * 5 >= most or step == _STEPS[-1])
    return [float(number * step) for number in range(most // step + 2)]


def _short(number: Any) -> str:
    """Write a number in few characters."""
    if not isinstance(number, (int, float)):
        return ""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def _without_scripts(drawn: bytes) -> bytes:
    """Remove the script in which pygal keeps its configuration."""
    return re.sub(rb"<script\b.*?</script>|<script\b[^>]*/>", b"", drawn, flags=re.DOTALL)
