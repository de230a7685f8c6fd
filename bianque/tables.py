"""Tables in Markdown, for reports and the command line."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A line a row, the first column to the left and the others to the right; no cell ends its own or its line."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    clean = lambda cell: " ".join(cell.replace("|", "\\|").split())
    return [f"| {' | '.join(map(clean, row))} |" for row in (head, rules, *rows)]
