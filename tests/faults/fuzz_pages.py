"""The data of figures, and the report: no text of a run becomes markup."""

import json
import re
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any, get_args

from ntkscale.reporting import Entry, Picture, Section, Table, report_charts, write_report
from ntkscale.reporting.figure_data import (
    Axis,
    Band,
    FigureData,
    HeatMap,
    Marker,
    Note,
    Panel,
    Reference,
    Series,
    Style,
)
from ntkscale.reporting.figure_file import KIND, read_figure_data, write_figure_data
from tests.faults import fuzz_mutations as mutations
from tests.faults.fuzz_formats import Files, Format, of_one

PNG = b"\x89PNG\r\n\x1a\n picture"
_FREE = {"p", "br"}  # as many as a text has paragraphs and lines


def figure(text: str) -> FigureData:
    """One of everything, with a text wherever one may stand."""
    curve = Series(
        text, (1.0, 2.0, None), (0.5, None, 3.0), "dashed", "#aa0000", "circle",
        y_error=((0.1, None, 1.0), (1.0, None, 4.0)),
    )  # fmt: skip
    return FigureData(
        (
            Panel(
                text,
                Axis(text, "log", (1.0, 10.0), ((1.0, text),)),
                Axis(text, "symlog", (0.0, 1.0), threshold=0.1),
                (curve,),
                (Band((1.0, 2.0), (0.0, 1.0), (1.0, 2.0), "#00aa00", 0.3, series=0, name=text),),
                (Reference("x", 1.0, 2.0, "#000000", name=text),),
                (Note(text, 0.5, 0.5, ("axes", "data"), "#333333"),),
                HeatMap((0.0, 1.0), (0.0, 1.0), (2.0,), (0.0, 1.0), ("#000000", "#ffffff"), text),
            ),
        ),
        title=text,
    )


@cache
def _figure_files() -> Files:
    head = {"kind": KIND, "version": 1, "png": sha256(PNG).hexdigest()}
    text = json.dumps(head | asdict(figure("mse [target²]")), separators=(",", ":"))
    return {"curve.png": PNG, "curve.json": text.encode()}


def _read_figure(place: Path, outside: Path) -> None:
    path = place / "curve.json"
    found = read_figure_data(place / "curve.png")
    if found is None:
        return
    said = json.loads(path.read_bytes())
    assert said["png"] == sha256(PNG).hexdigest()
    for panel in found.panels:
        for one in panel.series:
            assert one.style in get_args(Style) and one.marker in get_args(Marker)
    shown = json.loads(json.dumps(asdict(found)))
    assert all(shown[name] == said[name] for name in shown if name in said and name != "panels")
    chart = report_charts.chart_figure("<img>", "", found, "curve")
    assert len(re.findall(r"<[a-zA-Z/!]", chart)) == 5  # figure, img, script and their ends


class Structure(HTMLParser):
    """Elements in order, with their attributes, but for paragraphs and lines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.comments = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _FREE:
            self.found.append((tag, tuple(name for name, _ in attrs)))
            self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in _FREE:
            self.found.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def unknown_decl(self, data: str) -> None:
        self.comments += 1

    def handle_pi(self, data: str) -> None:
        self.comments += 1


def page(folder: Path, texts: list[str]) -> str:
    """A report with these texts in every field, one after the other."""
    told = iter(texts * 40)

    def say() -> str:
        return next(told) or "empty"

    png = folder / "curve.png"
    png.write_bytes(PNG)
    short = next(told)[:2000].encode("utf-8", "replace").decode()
    write_figure_data(png, figure(short))
    table = Table(
        say(), [say() + "a", say() + "b"], note=say(),
        rows=[],
    )  # fmt: skip
    first, second = table.columns
    rows: list[dict[str, Entry | str | float | int | None]] = [
        {first: Entry(say(), mark="fail"), second: Entry(1.5, (1.0, 2.0), "pass")},
        {first: say(), second: None},
    ]
    table = Table(table.title, table.columns, rows, table.note)
    sections = [
        Section(say(), say(), [table], [Picture(png, say(), say())]),
        Section(say(), say(), figures=[Picture(PNG, say(), say())]),
    ]
    config: dict[str, Any] = {say() + str(i): value for i, value in enumerate(_values(say))}
    environment = {say() + "e": {say(): say()}, say() + "f": [say()]}
    path = folder / "report.html"
    write_report(path, say(), say(), sections, config=config, environment=environment)
    return path.read_text(encoding="utf-8")


def _values(say: Any) -> list[Any]:
    return [say(), [say(), {say(): [say()]}], {say(): say(), say(): {say(): 1}}, None, 1e300, say()]


def _report_files() -> Files:
    return {"texts.json": json.dumps(["mse", "one two", "3"]).encode()}


def _damage_report(rng: Random, files: Files) -> None:
    """Texts put together from hostile ones."""
    pieces = [*mutations.TEXTS, *_MARKUP]
    texts = ["".join(rng.choices(pieces, k=rng.choice((1, 1, 2, 3)))) for _ in range(7)]
    text = json.dumps([one[:400].replace("\ud800", "") for one in texts])
    files["texts.json"] = text.encode()


_MARKUP = (
    *("<b>", "<svg onload=alert(1)>", "</td></table>", '" onmouseover="x', "' autofocus '", "<"),
    *(
        "</title>",
        "</style><style>*{display:none}",
        "<iframe src=//x>",
        "]]>",
        "<![CDATA[",
        "<?php",
    ),
    *(
        "&#60;script&#62;",
        "&quot;",
        "<base href=//x>",
        "<meta http-equiv=refresh>",
        "</figure>",
        "&",
    ),
    *("</SCRIPT >", "<\0script>", "\\u003c/script>", "<!DOCTYPE x>", "`", "<img src=x>", "\u2028"),
)


@cache
def _plain_structure(place: Path) -> tuple[list[tuple[str, tuple[str, ...]]], int]:
    sound = Structure(page(place, ["x", "y", "z"]))
    return sound.found, sound.comments


def _read_report(place: Path, outside: Path) -> None:
    # The library is 2 MB that no text of a run touches.
    report_charts._library = lambda: "library"  # pyright: ignore[reportAttributeAccessIssue]
    texts = json.loads((place / "texts.json").read_bytes())
    text = page(place, texts)
    found = Structure(text)
    expected, comments = _plain_structure(place)
    assert found.found == expected and found.comments == comments
    assert all(re.fullmatch(r"#?[a-z0-9-]+", value) for value in _given(found.attributes))
    assert len(re.findall(r"<script", text, re.IGNORECASE)) == 3
    assert {path.name for path in place.iterdir()} == {
        "texts.json", "curve.png", "curve.json", "report.html",
    }  # fmt: skip


def _given(attributes: list[tuple[str, str]]) -> list[str]:
    """Names of sections, the only attributes but descriptions that the text of a run makes."""
    return [value for name, value in attributes if name in ("id", "href")]


PAGE_FORMATS = [
    Format(
        "figure data", _figure_files, of_one("curve.json"), _read_figure, (ValueError, OSError),
        ("curve.json",),
    ),
    Format("report.html", _report_files, _damage_report, _read_report, (ValueError,), writes=True),
]  # fmt: skip
