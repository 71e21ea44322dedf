"""A verdict table: one structure, shown in the terminal and in the report."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal, TextIO

from rich.box import ASCII, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

Mark = Literal["pass", "fail", "rough"]

_SIGNS: dict[Mark, str] = {"pass": "✓", "fail": "✗", "rough": "≈"}
_COLOURS: dict[Mark, str] = {"pass": "green", "fail": "bold red", "rough": "yellow"}
_MEANINGS: dict[Mark, str] = {
    "pass": "within its bound",
    "fail": "outside its bound",
    "rough": "too rough to judge",
}
_COLUMNS = 100  # of a page of text: a file or pipe has no width of its own
_UNBROKEN = 30  # letters of a word that is not broken


@dataclass(frozen=True)
class Entry:
    """What stands in one cell of a table.

    Attributes:
        value: text or a number; nan and None show as a dash.
        interval: shown behind it, as ``value [low, high]``.
        mark: whether it is within its bound.
        digits: decimals of a float; beyond 1e5 or under 1e-3 that many significant ones.
    """

    value: str | float | int | None
    interval: tuple[float, float] | None = None
    mark: Mark | None = None
    digits: int = 3

    @property
    def text(self) -> str:
        """The entry without its mark."""
        shown = _number(self.value, self.digits)
        if self.interval is None or shown == "-":
            return shown
        low, high = (_number(edge, self.digits) for edge in self.interval)
        return f"{shown} [{low}, {high}]"


@dataclass(frozen=True)
class Table:
    """Rows of named columns.

    ``rich.print(table)`` or `show` prints it, `html` gives it to the report.

    Attributes:
        title: what it says.
        columns: their names, in order; units belong here.
        rows: of entries, or plain text and numbers, by column; a missing one is left empty.
        note: below it, e.g. what the bounds are.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Entry | str | float | int | None]] = field(default_factory=list)
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            for name in row:
                if name not in self.columns:
                    raise ValueError(
                        f"table {self.title!r} has no column {name!r}; its columns are "
                        f"{', '.join(self.columns)}."
                    )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        widths = self._widths(options.max_width, ascii_only)
        table = RichTable(
            title=Text(_harmless(self.title)),  # text: brackets of units are no markup
            title_justify="left",
            title_style="bold",
            caption=Text(_harmless(self._footnote(ascii_only))),
            caption_justify="left",
            box=ASCII if ascii_only else SIMPLE_HEAD,
            pad_edge=False,
        )
        for position, name in enumerate(self.columns):
            justify = "right" if self._numeric(position) else "left"
            width = widths[position] if widths else None
            table.add_column(Text(_harmless(name)), justify=justify, overflow="fold", width=width)
        for entries in self._entries():
            table.add_row(*(_marked(entry, ascii_only) for entry in entries))
        yield table

    def _footnote(self, ascii_only: bool = False) -> str:
        """The note, and what the marks in the table mean."""
        used = {entry.mark for entries in self._entries() for entry in entries}
        signs = {mark: mark if ascii_only else sign for mark, sign in _SIGNS.items()}
        key = "   ".join(f"{signs[mark]} {_MEANINGS[mark]}" for mark in _SIGNS if mark in used)
        return "\n".join(filter(None, [self.note, key]))

    def least_width(self) -> int:
        """Columns of the narrowest terminal in which no number and no usual word is broken."""
        return sum(word for word, _ in self._needs(ascii_only=False)) + self._ruling()

    def _needs(self, ascii_only: bool) -> list[tuple[int, int]]:
        """Letters of the longest word and of the longest line of every column."""
        body = [[_marked(entry, ascii_only).plain for entry in row] for row in self._entries()]
        needs = []
        for name, *texts in zip(map(_harmless, self.columns), *body, strict=True):
            words = [word for text in (name, *texts) for word in text.split()]
            lines = [line for text in (name, *texts) for line in text.split("\n")]
            longest = max(map(cell_len, words), default=1)
            needs.append((min(longest, _UNBROKEN), max(1, *map(cell_len, lines))))
        return needs

    def _ruling(self) -> int:
        return 3 * len(self.columns) - 1  # blanks around columns and edges

    def _widths(self, room: int, ascii_only: bool) -> list[int] | None:
        """Widths that break lines between words alone; None: no such widths fit into the room."""
        needs = self._needs(ascii_only)
        widths = [line for _, line in needs]
        while sum(widths) + self._ruling() > room:
            spare = [
                (width, position)
                for position, (width, (word, _)) in enumerate(zip(widths, needs, strict=True))
                if width > word
            ]
            if not spare:
                return None
            widths[max(spare)[1]] -= 1
        return widths

    def html(self) -> str:
        """The table as an HTML fragment without any style of its own."""
        head = "".join(
            f'<th scope="col"{self._html_class(position)}>{escape(name)}</th>'
            for position, name in enumerate(self.columns)
        )
        body = "\n".join(
            "<tr>" + "".join(self._html_cell(*pair) for pair in enumerate(entries)) + "</tr>"
            for entries in self._entries()
        )
        # Columns of words share the width of the page, numbers take what they need.
        numbers = any(self._numeric(position) for position in range(len(self.columns)))
        words = "" if numbers else ' class="words"'
        note = escape(self._footnote()).replace("\n", "<br>")
        foot = f'\n<p class="note">{note}</p>' if note else ""
        return (
            f'<div class="table"><table{words}>\n<caption>{escape(self.title)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>{foot}"
        )

    def _html_cell(self, position: int, entry: Entry) -> str:
        mark = ""
        if entry.mark is not None:
            sign = f'<span aria-hidden="true">{_SIGNS[entry.mark]}</span>'
            said = f'<span class="said">({_MEANINGS[entry.mark]})</span>'
            mark = f' <b class="{entry.mark}">{sign}{said}</b>'
        return f"<td{self._html_class(position)}>{escape(entry.text)}{mark}</td>"

    def _html_class(self, position: int) -> str:
        return ' class="number"' if self._numeric(position) else ""

    def _entries(self) -> Iterator[list[Entry]]:
        for row in self.rows:
            found = (row.get(name, "") for name in self.columns)
            yield [entry if isinstance(entry, Entry) else Entry(entry) for entry in found]

    def _numeric(self, position: int) -> bool:
        return all(not isinstance(row[position].value, str) for row in self._entries())


def show(*tables: Table, file: TextIO | None = None) -> None:
    """Print tables, in colour where the terminal has any.

    Args:
        tables: in order.
        file: default: stdout. What is wider than the terminal is folded and loses no digit; a file
            or pipe has 100 columns, or as many more as let every number and word be in one piece.
    """
    target = sys.stdout if file is None else file
    for table in tables:
        width = None if target.isatty() else max(_COLUMNS, table.least_width())
        Console(file=target, width=width).print(table, "")  # a blank line sets it apart


def _marked(entry: Entry, ascii_only: bool) -> Text:
    text = Text(_harmless(entry.text))
    if entry.mark is not None:
        sign = entry.mark if ascii_only else _SIGNS[entry.mark]
        text.append(f" {sign}", style=_COLOURS[entry.mark])
    return text


def _harmless(text: str) -> str:
    """The text without what would steer a terminal: it may come from anybody's run."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _number(value: str | float | int | None, digits: int) -> str:
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}"
    return f"{value:.{digits}f}"
