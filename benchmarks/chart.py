"""Draws a chart of the loads into PostgreSQL: `chart.py RESULTS PICTURE`, in an environment with matplotlib."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]
from matplotlib.figure import Figure  # type: ignore[import-not-found]

CONTENDERS = {
    "tap-trackly, target-postgres": ("tap-trackly", "#1f6feb"),
    "SDK template, target-postgres": ("SDK template", "#b3bac2"),
    "dlt rest_api": ("dlt rest_api", "#b3bac2"),
}
"""The label and color of each contender that is drawn."""
LOADS = {"first load": "First load", "hourly load": "Hourly load, 1 % changed"}
_TEXT = "#24292f"


def main() -> None:
    """Draw a chart for each account and load."""
    results, picture = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    # The same results must give the same file.
    mpl.rcParams.update({"svg.hashsalt": "tap-trackly", "font.size": 10, "text.color": _TEXT})
    # The white background keeps it readable on a dark page.
    figure = Figure(figsize=(9, 0.8 + 1.8 * len(results)), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    figure.suptitle("Seconds from start to the last row in PostgreSQL (less is better)", fontweight="bold")
    rows = figure.subplots(len(results), len(LOADS), sharex="row", sharey=True, squeeze=False)
    for row, account in zip(rows, results.values(), strict=True):
        for axes, (load, title) in zip(row, LOADS.items(), strict=True):
            draw(axes, f"{title}\n{account['account']}", account[load])
    rows[0][0].invert_yaxis()
    figure.savefig(picture, dpi=150, metadata={"Date": None} if picture.endswith(".svg") else None)


def draw(axes: Any, title: str, measured: dict[str, Any]) -> None:
    """Draw a bar for each contender, labelled with its seconds or with its error."""
    labels, colors = zip(*CONTENDERS.values(), strict=True)
    walls = {name: statistics.median(numbers["wall"]) for name, numbers in measured["contenders"].items()}
    bars = axes.barh(labels, [walls.get(name, 0) for name in CONTENDERS], color=colors, height=0.7)
    words = {**{name: f"{wall:.1f}" for name, wall in walls.items()}, **measured["wrong"]}
    axes.bar_label(bars, [words[name] for name in CONTENDERS], padding=4)
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.15)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelbottom=False, labelcolor=_TEXT)


if __name__ == "__main__":
    main()
