"""Tables of text, plain and HTML."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence
from html import escape

WIDTH = 110  # of printed text


def text_table(rows: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """Align rows of cells in lines; the columns ``left`` are flush left, all others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        padded = (cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in cells)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Write rows of cells as an HTML table, of which the first are titles, with lines of text below."""
    titles, *others = rows
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in others)
    text = "<br>".join(map(escape, notes))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{text}</p>"


def wrapped(text: str) -> str:
    """Break a list with commas into lines that are not too wide, at commas only."""
    tied = re.sub("(?<!,) ", "\N{NO-BREAK SPACE}", text)
    lines = textwrap.fill(tied, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ")
