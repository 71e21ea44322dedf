"""One table, in the terminal and in the report."""

import io
import math
from html.parser import HTMLParser

import pytest
from rich.console import Console

from ntkscale.reporting import Entry, Table, show


@pytest.fixture
def table() -> Table:
    return Table(
        "Circle <ReLU>",
        ["task", "alpha", "time [h]", "verdict"],
        [
            {"task": "hard & <slow>", "alpha": Entry(2.0134, (1.9, 2.1), "pass"), "time [h]": 3},
            {"task": "easy", "alpha": Entry(math.nan, (0, 1)), "verdict": Entry("no", mark="fail")},
            {"task": "[bold]rough[/]", "alpha": Entry(-1.5e-7, digits=2, mark="rough")},
        ],
        note="bounds: 2 ± .06",
    )


class Cells(HTMLParser):
    """Texts of an HTML table, row by row, with unbalanced tags refused."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(0.24159, (0.2301, 0.2512)), "0.242 [0.230, 0.251]"),
        (Entry(12), "12"),
        (Entry(1234567.0), "1.23e+06"),
        (Entry(0.0), "0.000"),
        (Entry(-0.00012345, digits=2), "-0.00012"),
        (Entry(math.nan, (math.nan, math.nan)), "-"),
        (Entry(None), "-"),
        (Entry(math.inf), "inf"),
        (Entry(2.5, (2.0, math.inf)), "2.500 [2.000, inf]"),
        (Entry("word"), "word"),
    ],
)
def test_how_entries_read(entry: Entry, text: str) -> None:
    assert entry.text == text


def test_terminal_and_report_say_the_same(table: Table) -> None:
    file = io.StringIO()
    show(table, file=file)
    printed = file.getvalue()
    cells = Cells()
    cells.feed(table.html())
    assert cells.open == []
    assert cells.rows[0] == list(table.columns)
    assert cells.rows[1] == ["hard & <slow>", "2.013 [1.900, 2.100] ✓(within its bound)", "3", ""]
    assert cells.rows[2] == ["easy", "-", "", "no ✗(outside its bound)"]
    assert cells.rows[3][:2] == ["[bold]rough[/]", "-1.5e-07 ≈(too rough to judge)"]
    for text in (
        "Circle <ReLU>",
        "hard & <slow>",
        "2.013 [1.900, 2.100] ✓",
        "no ✗",
        "[bold]rough[/]",
    ):
        assert text in printed
    for text in ("bounds: 2 ± .06", "✓ within its bound", "✗ outside its bound"):
        assert text in printed and text in table.html()


def test_the_marks_are_explained_only_where_used() -> None:
    assert "outside" not in Table("t", ["a"], [{"a": Entry(1.0, mark="pass")}]).html()
    assert "note" not in Table("t", ["a"], [{"a": 1.0}]).html()


def piped(table: Table) -> list[str]:
    file = io.StringIO()
    show(table, file=file)
    return file.getvalue().splitlines()


def test_a_pipe_has_a_hundred_columns_and_loses_nothing() -> None:
    words = [f"what is said in column {i} takes more than its share of a line" for i in range(5)]
    names = [f"name {i}" for i in range(5)]
    lines = piped(Table("t", names, [dict(zip(names, words, strict=True))], note="long " * 60))
    assert max(map(len, lines)) <= 100
    said = "\n".join(lines)
    assert [said.count(word) for word in ("share", "column", "line")] == [5, 5, 5]
    assert said.count("long") == 60


def test_a_pipe_never_breaks_a_number() -> None:
    names = [f"quantity{i}" for i in range(14)]
    value = Entry(-0.00123456, (-1.5e-7, 0.25), "pass")
    lines = piped(Table("t", names, [dict.fromkeys(names, value)]))
    assert 100 < max(map(len, lines)) < 14 * len(value.text)
    said = " ".join(lines).split()
    assert all(said.count(name) == 1 for name in names)
    assert said.count("-0.001") == said.count("[-1.5e-07,") == said.count("0.250]") == 14


def test_a_terminal_folds_between_words_while_it_can() -> None:
    table = Table("t", ["pair", "what"], [{"pair": "pullover/coat", "what": "some words " * 9}])
    for width in range(12, 60):
        file = io.StringIO()
        Console(file=file, width=width).print(table)
        said = file.getvalue()
        assert max(map(len, said.splitlines())) <= width
        assert ("pullover/coat" in said and said.count("words") == 9) == (
            width >= table.least_width()
        )
        assert sum(map(str.isalpha, said)) == sum(map(str.isalpha, "tpairwhatpullovercoat")) + 81


def test_a_terminal_without_unicode_gets_words(table: Table) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    plain = Table("t", ["a"], [{"a": Entry(1.0, mark="fail")}])
    Console(file=file, width=80).print(plain)
    file.seek(0)
    assert "1.000 fail" in file.read()


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="no column 'b'; its columns are a"):
        Table("t", ["a"], [{"b": 1}])
