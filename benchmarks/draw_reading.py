"""Draws docs/reading.svg: `python -m benchmarks.draw_reading`. Readable on light and dark pages."""

from __future__ import annotations

from pathlib import Path

_SCALE = 6  # pixels for one record
_ROWS = (
    ("any order: pages side by side, counted", ((0, 30), (30, 60), (60, 90)), (0, 60)),
    ("newest first: pages overlap", ((0, 30), (27, 54), (52, 78), (75, 100)), (0,)),
)
_STYLE = (
    "text{font:13px sans-serif;fill:#777}rect{stroke:#3b82f6;fill:#3b82f6;fill-opacity:.25}"
    ".again{stroke:#f59e0b;fill:none;stroke-width:2}"
)


def draw() -> str:
    """Return the picture: the pages of each kind of read, and those that are requested again at the end."""
    shapes, top = [], 10
    for title, pages, again in _ROWS:
        shapes.append(f'<text x="10" y="{top + 12}">{title}; framed: requested again at the end</text>')
        for number, (start, end) in enumerate(pages):
            box = f'x="{10 + start * _SCALE}" y="{top + 22 + number * 14}" width="{(end - start) * _SCALE}" height="12"'
            shapes.append(f"<rect {box}/>")
            if start in again:
                shapes.append(f'<rect class="again" {box}/>')
        top += 40 + len(pages) * 14
    body = "\n".join(shapes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {top}"><style>{_STYLE}</style>\n{body}\n</svg>\n'


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "reading.svg").write_text(draw())
