"""One self-contained HTML file that says what was asked, what came out and with what."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ntkscale.reporting.figure_file import read_figure_data
from ntkscale.reporting.report_charts import chart_figure, chart_scripts
from ntkscale.reporting.report_style import CSS
from ntkscale.reporting.table import Table
from ntkscale.runs import write_text

_MANY = 12  # sections, beyond which the list of contents is folded
_PNG = b"\x89PNG\r\n\x1a\n"
_WIDTH = slice(16, 20)  # bytes of a PNG


@dataclass(frozen=True)
class Picture:
    """A picture in a report.

    Attributes:
        png: the picture itself, or the file that holds it. Beside a file lie the data that
            `save_figure` wrote, if any: they become a chart, and the picture is what is printed.
        alt: what it shows, in words, for those who cannot see it.
        caption: below it; empty for none.
    """

    png: bytes | Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report, listed in its table of contents.

    Attributes:
        heading: its title.
        text: paragraphs, set apart by blank lines; plain text.
        tables: after the text.
        figures: after the tables.
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)
    figures: Sequence[Picture] = field(default_factory=tuple)


def write_report(
    path: Path,
    title: str,
    summary: str,
    sections: Sequence[Section],
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Write a report that needs no other file and no network.

    It follows the reader's light or dark setting and fits a telephone. Figures with data are
    charts; without scripts, and on paper, they are pictures. A page without charts has no script.

    Args:
        path: of the HTML file; replaced in one go.
        title: of the page.
        summary: paragraphs before the contents: the verdict in words.
        sections: in order.
        config, environment: of the run, shown at the end.

    Raises:
        ValueError: a figure that is no PNG, or has damaged data beside it.
        OSError: a figure cannot be read, or the report not written.
    """
    names = _anchors([section.heading for section in sections])
    contents = "\n".join(
        f'<li><a href="#{name}">{escape(section.heading)}</a></li>'
        for name, section in zip(names, sections, strict=True)
    )
    body = "\n".join(_section(name, section) for name, section in zip(names, sections, strict=True))
    scripts = chart_scripts() if '<figure class="chart"' in body else ""
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_policy(bool(scripts))}">
<title>{escape(title)}</title>
<style>
{CSS}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{_paragraphs(summary)}
</header>
<nav aria-label="Contents">
<details{"" if len(sections) > _MANY else " open"}><summary>Contents</summary>
<ol>
{contents}
<li><a href="#run">The run</a></li>
</ol>
</details>
</nav>
<main>
{body}
<section id="run">
<h2>The run</h2>
{_facts("Configuration", config)}
{_facts("Environment", environment)}
</section>
</main>
{scripts}</body>
</html>
"""
    write_text(path, page)


def _section(name: str, section: Section) -> str:
    parts = [f'<section id="{name}">', f"<h2>{escape(section.heading)}</h2>"]
    parts.append(_paragraphs(section.text))
    parts += [table.html() for table in section.tables]
    parts += [_figure(figure) for figure in section.figures]
    return "\n".join([*filter(None, parts), "</section>"])


def _figure(figure: Picture) -> str:
    content = figure.png if isinstance(figure.png, bytes) else figure.png.read_bytes()
    if not content.startswith(_PNG):
        raise ValueError(
            f"figure {figure.alt!r} is no PNG; give the .png that save_figure wrote, not the .pdf."
        )
    data = base64.b64encode(content).decode()
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    source = f"data:image/png;base64,{data}"
    # At half of its pixels the letters have the size of the page's small print.
    readable = int.from_bytes(content[_WIDTH]) // 2
    picture = f'<img src="{source}" alt="{escape(figure.alt)}" style="--readable: {readable}px">'
    curves = None if isinstance(figure.png, bytes) else read_figure_data(figure.png)
    if curves is None or isinstance(figure.png, bytes):
        return f"<figure>{picture}{caption}</figure>"
    return chart_figure(picture, caption, curves, figure.png.stem)


def _policy(scripts: bool) -> str:
    """What the browser may load: nothing but what stands in the page."""
    allowed = " script-src 'unsafe-inline';" if scripts else ""
    return f"default-src 'none';{allowed} style-src 'unsafe-inline'; img-src data: blob:"


def _paragraphs(text: str) -> str:
    blocks = (block.strip() for block in re.split(r"\n\s*\n", text))
    return "\n".join(f"<p>{escape(block)}</p>" for block in blocks if block)


def _facts(heading: str, facts: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_shown(value))}</td></tr>'
        for key, value in facts.items()
    )
    return (
        f'<details><summary>{heading}</summary><div class="table"><table class="facts">\n{rows}\n'
        "</table></div></details>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return json.dumps(value, default=str)


def _anchors(headings: Sequence[str]) -> list[str]:
    """A name for each heading, unlike all others."""
    names: list[str] = []
    for heading in headings:
        plain = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
        name, count = plain, 1
        while name in names or name == "run":
            count += 1
            name = f"{plain}-{count}"
        names.append(name)
    return names
