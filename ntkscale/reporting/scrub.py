"""A slider through time under a plotly figure: for kernels, paths, spectra as they change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from plotly.basedatatypes import BaseTraceType

_BELOW = 45  # pixels from the axis to the slider: room for a title of the axis
_MILLISECONDS = 250  # a frame lasts while it plays


def scrub(
    figure: "go.Figure",
    frames: "Sequence[Sequence[BaseTraceType]]",
    labels: Sequence[str],
    *,
    prefix: str = "t = ",
    titles: Sequence[str] = (),
    start: int = 0,
) -> "go.Figure":
    """Give a figure a slider and a button that plays; both also work in a static page.

    Args:
        figure: with its traces, as they are at frame `start`; it is changed and returned.
        frames: for each moment the traces that take the place of the figure's, in their order.
        labels: what the slider says at each moment.
        prefix: before the label, with the unit if there is one.
        titles: of the figure, one a moment; empty: it stays.
        start: the frame that is shown first.

    Raises:
        ValueError: as many labels or titles as frames are needed, and at least one frame.
    """
    if not frames or len(labels) != len(frames) or len(titles) not in (0, len(frames)):
        raise ValueError(
            f"{len(frames)} frames with {len(labels)} labels and {len(titles)} titles: give one "
            "label a frame, and as many titles or none."
        )
    import plotly.graph_objects as go  # most of a second, which nobody else pays

    figure.frames = [
        go.Frame(
            name=str(moment),
            data=list(traces),
            traces=list(range(len(traces))),
            layout={"title": {"text": titles[moment]}} if titles else None,
        )
        for moment, traces in enumerate(frames)
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    playing = {"fromcurrent": True, "frame": {"duration": _MILLISECONDS, "redraw": True}}
    figure.update_layout(
        sliders=[
            {
                "active": start,
                "currentvalue": {"prefix": prefix, "font": {"size": 12}},
                "pad": {"t": _BELOW},
                "x": 0.16,
                "len": 0.84,
                "steps": [
                    {"label": label, "method": "animate", "args": [[str(moment)], at_once]}
                    for moment, label in enumerate(labels)
                ],
            }
        ],
        updatemenus=[
            {
                "type": "buttons",
                "x": 0.12,
                "y": 0,
                "xanchor": "right",
                "yanchor": "top",
                "pad": {"t": _BELOW + 13},
                "showactive": False,
                "buttons": [{"label": "▶", "method": "animate", "args": [None, playing]}],
            }
        ],
    )
    if titles:
        figure.update_layout(title={"text": titles[start], "font": {"size": 13}})
    return figure
