"""The report is one file that needs no other."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ntkscale.reporting import Entry, Picture, Section, Table, new_figure, save_figure, write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, texts and links of a page, with unbalanced tags refused."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def png(tmp_path: Path) -> Path:
    figure, axes = new_figure()
    axes[0].plot([1, 2], [1, 4])
    return save_figure(figure, tmp_path / "figures", "curve")[0]


def write(path: Path, png: Path) -> Page:
    sections = [
        Section("Loss & more", "One.\n\nTwo <b>.", [Table("T", ["a"], [{"a": Entry(1.5)}])]),
        Section("Figures", figures=[Picture(png, 'alt "quoted"', "caption <i>")]),
        Section("Figures", figures=[Picture(png.read_bytes(), "again")]),
        Section("The run"),
        Section("Run"),
    ]
    write_report(
        path,
        "Circle <script>alert(1)</script>",
        "Lazy and rich.\n\nVerdict.",
        sections,
        config={"beta": [0.25, 0.5], "name": "<x>"},
        environment={"packages": {"torch": "2", "numpy": "1"}, "git": None},
    )
    return Page(path.read_text(encoding="utf-8"))


def test_it_is_self_contained_and_escaped(tmp_path: Path, png: Path) -> None:
    page = write(tmp_path / "report.html", png)
    assert not page.all("link") and not any("src" in script for script in page.all("script"))
    sources = [image["src"] or "" for image in page.all("img")]
    content = png.read_bytes()
    for source in sources:
        head, data = source.split(",", 1)
        assert head == "data:image/png;base64" and base64.b64decode(data) == content
    assert len(sources) == 2
    assert [image["alt"] for image in page.all("img")] == ['alt "quoted"', "again"]
    text = (tmp_path / "report.html").read_text()
    loaded = re.sub(r"http://www\.w3\.org/2000/svg", "", text)  # a name
    assert not re.search(r"https?://|@import|url\(", loaded)
    for said in (
        "Circle <script>alert(1)</script>",
        "Two <b>.",
        "caption <i>",
        "[0.25, 0.5]",
        "<x>",
    ):
        assert said in page.text
    assert "torch 2, numpy 1" in page.text


def test_only_pages_with_charts_have_scripts_and_plotly_once(tmp_path: Path, png: Path) -> None:
    page = write(tmp_path / "report.html", png)
    kinds = [script.get("type") for script in page.all("script")]
    assert kinds == ["application/json", "text/plain", None]  # one figure, plotly, the script
    sections = [Section("One", figures=[Picture(png, "a"), Picture(png, "b")])]
    write_report(tmp_path / "r.html", "t", "", sections, config={}, environment={})
    kinds = [script.get("type") for script in Page((tmp_path / "r.html").read_text()).all("script")]
    assert kinds == ["application/json", "application/json", "text/plain", None]
    plain = [Section("One", figures=[Picture(png.read_bytes(), "a")])]
    write_report(tmp_path / "r.html", "t", "", plain, config={}, environment={})
    text = (tmp_path / "r.html").read_text()
    assert not Page(text).all("script") and "script-src" not in text and len(text) < 200_000


def test_the_page_may_load_nothing(tmp_path: Path, png: Path) -> None:
    page = write(tmp_path / "report.html", png)
    (policy,) = [meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_strings_of_a_run_cannot_leave_their_chart(tmp_path: Path) -> None:
    figure, axes = new_figure()
    hostile = "</script><script>alert(1)</script><!-- &lt;"
    axes[0].plot([1, 2], [1, 4], label=hostile)
    axes[0].set_title(hostile)
    png = save_figure(figure, tmp_path, "curve")[0]
    page = write(tmp_path / "report.html", png)
    assert len(page.all("script")) == 3
    text = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in text and "<!-- &lt;" not in text


def test_damaged_data_are_named_and_the_old_report_stays(tmp_path: Path, png: Path) -> None:
    write(tmp_path / "report.html", png)
    before = (tmp_path / "report.html").read_bytes()
    data = png.with_suffix(".json")
    data.write_text(data.read_text().replace('"solid"', '"wavy"'))
    with pytest.raises(ValueError, match=r"curve\.json is damaged"):
        write(tmp_path / "report.html", png)
    assert (tmp_path / "report.html").read_bytes() == before


def test_the_contents_lead_to_every_section(tmp_path: Path, png: Path) -> None:
    page = write(tmp_path / "report.html", png)
    names = [section["id"] for section in page.all("section")]
    links = [(link["href"] or "")[1:] for link in page.all("a")]
    assert links == names and len(set(names)) == len(names) == 6


def test_it_suits_telephones_and_the_dark(tmp_path: Path, png: Path) -> None:
    page = write(tmp_path / "report.html", png)
    metas = {meta.get("name"): meta.get("content") for meta in page.all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in (tmp_path / "report.html").read_text()
    assert page.all("html")[0]["lang"] == "en"


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(
    tmp_path: Path, png: Path
) -> None:
    write(tmp_path / "report.html", png)
    before = (tmp_path / "report.html").read_bytes()
    write(tmp_path / "report.html", png)
    assert (tmp_path / "report.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "figures"}


def test_a_figure_that_is_no_png_is_refused_and_the_old_report_stays(
    tmp_path: Path, png: Path
) -> None:
    write(tmp_path / "report.html", png)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(ValueError, match=r"no PNG; give the \.png"):
        write(tmp_path / "report.html", png.with_suffix(".pdf"))
    assert (tmp_path / "report.html").read_bytes() == before
