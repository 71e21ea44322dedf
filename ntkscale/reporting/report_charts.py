"""What a report needs to draw its figures as charts: their data, the library, the script.

Plotly's JavaScript comes compressed (1.9 MB of base64 for 4.8 MB) and is unpacked in the browser
when the first chart comes into view, so that a page opens at once.
"""

import base64
import gzip
import json
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from ntkscale.reporting.figure_data import FigureData


def chart_figure(picture: str, caption: str, data: FigureData, stem: str) -> str:
    """A figure whose picture the script replaces by charts on a screen, as HTML.

    Args:
        picture, caption: elements, the latter empty for none.
        data: what the charts show; harmless in the page whatever its texts hold.
        stem: of the files that its data are downloaded as.
    """
    script = f'<script type="application/json">{_harmless(asdict(data))}</script>'
    return f'<figure class="chart" data-stem="{escape(stem)}">{picture}{caption}{script}</figure>'


def chart_scripts() -> str:
    """Plotly and the script that draws, once a page, after all figures."""
    own = files("ntkscale.reporting").joinpath("report.js").read_text(encoding="utf-8")
    return (
        "<!-- plotly.js, Copyright Plotly, Inc., MIT licence, gzip and base64 -->\n"
        f'<script type="text/plain" id="plotly">{_library()}</script>\n<script>\n{own}</script>\n'
    )


@cache
def _library() -> str:
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def _harmless(content: Any) -> str:
    """JSON that ends no script element, opens no comment and breaks no line of JavaScript."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
