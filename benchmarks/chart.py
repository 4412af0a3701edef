"""A bar chart as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_LABELS, _BARS, _VALUES = 130, 480, 70
_TOP, _ROW, _BAR = 44, 26, 16
_CHART = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
font-family="sans-serif" font-size="13" role="img">
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="26" font-size="15" font-weight="bold" fill="#222">{title}</text>
{rows}
</svg>
"""
_LINE = """<text x="{label_x}" y="{text_y}" text-anchor="end" fill="#222">{label}</text>\
<rect x="{bar_x}" y="{y}" width="{length:.1f}" height="{bar}" rx="2" fill="{color}"/>\
<text x="{value_x:.1f}" y="{text_y}" fill="#222">{value:.2f}</text>"""


def bars(title: str, values: Mapping[str, float], emphasis: str) -> str:
    """Return a chart with a horizontal bar for each value.

    Args:
        title: What the values are.
        values: By label.
        emphasis: What the labels of the bars that stand out begin with.
    """
    longest = max(values.values())
    rows = []
    for position, (label, value) in enumerate(values.items()):
        y = _TOP + position * _ROW
        length = _BARS * value / longest
        rows.append(
            _LINE.format(
                label_x=_LABELS - 8,
                text_y=y + 13,
                label=escape(label),
                bar_x=_LABELS,
                y=y,
                length=length,
                bar=_BAR,
                color="#1f6feb" if label.startswith(emphasis) else "#b3bac2",
                value_x=_LABELS + length + 6,
                value=value,
            )
        )
    return _CHART.format(
        width=_LABELS + _BARS + _VALUES, height=_TOP + len(rows) * _ROW + 8, title=escape(title), rows="\n".join(rows)
    )
