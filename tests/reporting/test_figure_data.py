"""What a figure shows is read whole or not at all, kept as strict JSON and read back with care."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkscale.reporting import Curve, draw_curves, draw_distance_map, house_style, new_figure
from ntkscale.reporting.figure_data import FigureData, HeatMap, Panel
from ntkscale.reporting.figure_file import read_figure_data, write_figure_data
from ntkscale.reporting.figure_reading import figure_data

PNG = b"\x89PNG\r\n\x1a\n picture"


def panel(draw: Callable[[Axes], Any]) -> Panel:
    """What is read of a figure with one panel."""
    data = drawn(draw)
    assert data is not None
    return data.panels[0]


def drawn(draw: Callable[[Axes], Any]) -> FigureData | None:
    figure, (ax,) = new_figure()
    with house_style():
        draw(ax)
    return figure_data(figure)


def test_curves_keep_numbers_names_styles_and_bands() -> None:
    x = np.array([0.1, 1.0, 10.0])
    band = (0.5 / x, 2 / x)
    own = panel(
        lambda ax: draw_curves(
            ax,
            [Curve("rich", x, 1 / x, colour="#aa0000", band=band), Curve("", x, x, theory=True)],
            window=(1.0, 5.0),
            title="losses",
        )
    )
    rich, theory = own.series
    assert (rich.name, rich.x, rich.y) == ("rich", tuple(x), tuple(1 / x))
    assert (rich.style, rich.marker, rich.colour) == ("solid", "circle", "#aa0000")
    assert (theory.name, theory.style, theory.marker) == ("", "dotted", "none")
    (shade,) = own.bands
    assert (shade.series, shade.x, shade.low, shade.high) == (0, tuple(x), *map(tuple, band))
    (window,) = own.references
    assert (window.along, window.low, window.high, window.opacity) == ("x", 1.0, 5.0, 0.06)
    assert (own.title, own.x.scale, own.y.scale) == ("losses", "log", "log")
    assert (own.x.label, own.y.label) == ("flow time t [sum of learning rates]", "mse [target²]")


def test_error_bars_ticks_lines_and_words_survive() -> None:
    def draw(ax: Axes) -> None:
        y = [0.2, np.nan, 0.4]
        ax.errorbar([0, 1, 8], y, yerr=[0.1, 0.1, 0.2], xerr=0.5, fmt="s--", label="mean")
        ax.axhline(0.3, color="k", linestyle=":", label="theory")
        ax.axvline(1, color="0.5")
        ax.axhspan(0.1, 0.2, alpha=0.5)
        ax.annotate("here", (1, 1.02), xycoords=("data", "axes fraction"))
        ax.annotate("+1", (1, 0.3), xytext=(2, -11), textcoords="offset points", ha="center")
        ax.stairs([1, 2], [0, 1, 2], baseline=None, label="steps")
        ax.hist([1, 1, 2], [0, 1, 2, 3], histtype="step", label="counts")
        ax.set_xscale("symlog", linthresh=1.0)
        ax.set_xticks([0, 8], ["start", "end"])
        ax.invert_yaxis()
        ax.legend()

    own = panel(draw)
    mean, steps, counts = own.series
    assert (mean.name, mean.style, mean.marker, mean.y) == (
        "mean", "dashed", "square", (0.2, None, 0.4),
    )  # fmt: skip
    assert mean.y_error is not None and mean.x_error is not None
    np.testing.assert_allclose([mean.y_error[0][2] or 0, mean.y_error[1][2] or 0], [0.2, 0.6])
    assert mean.x_error[1] == (0.5, None, 8.5) or mean.x_error[1] == (0.5, 1.5, 8.5)
    assert (steps.name, steps.x, steps.y, steps.step) == ("steps", (0, 1, 2), (1, 2, 2), True)
    assert counts.name == "counts" and max(y or 0 for y in counts.y) == 2
    assert [(r.along, r.low, r.high, r.style, r.name) for r in own.references] == [
        ("y", 0.3, 0.3, "dotted", "theory"),
        ("x", 1.0, 1.0, "solid", ""),
        ("y", 0.1, 0.2, "none", ""),
    ]
    here, plus = own.notes
    assert (here.text, here.frame, here.y) == ("here", ("data", "axes"), 1.02)
    assert (plus.shift, plus.across, plus.x) == ((2.0, -11.0), "center", 1.0)
    assert (own.x.scale, own.x.threshold, own.x.ticks) == (
        "symlog", 1.0, ((0.0, "start"), (8.0, "end")),
    )  # fmt: skip
    assert own.y.view[0] > own.y.view[1]


def test_a_band_with_a_gap_comes_in_two_pieces() -> None:
    x = np.arange(5.0)
    where = x != 2
    own = panel(lambda ax: ax.fill_between(x, x, x + 1, where=where))
    assert own.bands[0].x == (0, 1, None, 3, 4) and own.bands[0].high == (1, 2, None, 4, 5)
    assert own.bands[0].series is None


def test_maps_carry_the_scale_of_the_bar_that_stands_for_them() -> None:
    times = np.array([0.0, 1.0, 3.0])
    distances = np.abs(times[:, None] - times) / 3
    figure, axes = new_figure(2)
    meshes = [
        draw_distance_map(ax, times, distances, unit="epochs", title="S", largest=2.0)
        for ax in axes
    ]
    figure.colorbar(meshes[0], ax=axes, label="S [1]")
    data = figure_data(figure)
    assert data is not None and len(data.panels) == 2 and data.columns == 2
    for one in data.panels:
        heat = one.heat
        assert isinstance(heat, HeatMap) and one.equal
        assert (heat.view, heat.label, heat.x) == ((0.0, 2.0), "S [1]", (0.0, 0.5, 2.0, 3.0))
        assert heat.values == tuple(distances.ravel())


REFUSED: dict[str, Callable[[Axes], Any]] = {
    "image": lambda ax: ax.imshow(np.eye(3)),
    "bars": lambda ax: ax.bar([1, 2], [3, 4]),
    "filled histogram": lambda ax: ax.hist([1, 2, 2]),
    "dots": lambda ax: ax.scatter([1, 2], [3, 4], s=[10, 20]),
    "map without a bar": lambda ax: ax.pcolormesh(np.eye(3)),
    "contour": lambda ax: ax.contour(np.eye(3)),
    "arrow": lambda ax: ax.annotate("a", (0, 0), xytext=(1, 1), arrowprops={"arrowstyle": "->"}),
    "formula": lambda ax: ax.set_title(r"$\alpha$"),
    "twin": lambda ax: ax.twinx().plot([1, 2]),
    "inset": lambda ax: ax.inset_axes((0.5, 0.5, 0.4, 0.4)).plot([1, 2]),
    "logit": lambda ax: ax.set_yscale("logit"),
    "bound": lambda ax: ax.errorbar([1], [1], yerr=0.1, lolims=True),
    "sparse markers": lambda ax: ax.plot([1, 2, 3], "o-", markevery=2),
    "dates": lambda ax: ax.plot(np.array(["2020-01-01", "2020-01-02"], "M8[D]"), [1, 2]),
    "words of a category": lambda ax: ax.plot(["a", "b"], [1, 2]),
    "handmade legend": lambda ax: ax.legend(ax.plot([1, 2]), ["by hand"]),
    "slanted line": lambda ax: ax.axline((0, 0), slope=1),
    "part of a line": lambda ax: ax.axhline(1, 0.2, 0.8),
    "too many points": lambda ax: ax.plot(np.arange(300_000)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_figures_that_hold_more_are_refused(name: str) -> None:
    assert drawn(REFUSED[name]) is None


def test_polar_axes_and_words_of_the_figure_are_refused() -> None:
    polar = Figure()
    polar.add_subplot(projection="polar").plot([0, 1], [1, 2])
    assert figure_data(polar) is None
    figure, (ax,) = new_figure()
    ax.plot([1, 2])
    figure.suptitle("all")
    assert getattr(figure_data(figure), "title", "") == "all"
    figure.text(0.5, 0.5, "loose")
    assert figure_data(figure) is None


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, FigureData]:
    data = drawn(lambda ax: ax.errorbar([1, 2, 3], [0.1, np.nan, 1e-300], yerr=0.1, label="a"))
    assert data is not None
    png = tmp_path / "curve.png"
    png.write_bytes(PNG)
    write_figure_data(png, data)
    return png, data


def test_files_read_back_the_same_and_have_no_nan(kept: tuple[Path, FigureData]) -> None:
    png, data = kept
    before = png.with_suffix(".json").read_bytes()
    assert b"NaN" not in before and json.loads(before)["version"] == 1
    assert read_figure_data(png) == data
    write_figure_data(png, data)
    assert png.with_suffix(".json").read_bytes() == before


def test_data_of_another_picture_are_not_believed(kept: tuple[Path, FigureData]) -> None:
    png, _ = kept
    png.write_bytes(PNG + b" changed")
    assert read_figure_data(png) is None


def test_none_removes_old_data_and_leaves_the_files_of_others(
    kept: tuple[Path, FigureData],
) -> None:
    png, _ = kept
    path = png.with_suffix(".json")
    write_figure_data(png, None)
    assert not path.exists() and read_figure_data(png) is None
    path.write_text('{"results": [1, 2]}')
    write_figure_data(png, None)
    assert path.exists() and read_figure_data(png) is None


def _break(content: dict[str, Any], name: str) -> Any:
    series = content["panels"][0]["series"][0]
    match name:
        case "length":
            series["x"].append(1.0)
        case "type":
            series["x"][0] = "1"
        case "colour":
            series["colour"] = "red;}</style>"
        case "style":
            series["style"] = "wavy"
        case "number":
            series["x"][0] = 10**400
        case "unknown":
            series["onclick"] = "x"
        case "missing":
            del content["panels"][0]["title"]
        case "axis":
            content["panels"][0]["x"]["scale"] = "log"
            content["panels"][0]["x"]["view"] = [-1.0, 1.0]
        case "owner":
            shade = {"x": [], "low": [], "high": [], "colour": "#000000", "opacity": 1}
            content["panels"][0]["bands"] = [shade | {"series": 7}]
        case "text":
            series["name"] = "x" * 100_000
        case "version":
            content["version"] = 2
        case "empty":
            content["panels"] = []
    return content


@pytest.mark.parametrize(
    "name",
    ["length", "type", "colour", "style", "number", "unknown", "missing", "axis", "owner", "text",
     "version", "empty"],
)  # fmt: skip
def test_damaged_data_are_refused_with_the_cure(kept: tuple[Path, FigureData], name: str) -> None:
    png, _ = kept
    path = png.with_suffix(".json")
    content = _break(json.loads(path.read_text()), name)
    path.write_text(json.dumps(content, separators=(",", ":")))
    with pytest.raises(ValueError, match=r"curve\.json is damaged .*; delete it"):
        read_figure_data(png)


@pytest.mark.parametrize("end", ["", ',"x":NaN}', ',"x":1e999}', "," + '"a":[' * 5000])
def test_what_is_no_json_is_refused(kept: tuple[Path, FigureData], end: str) -> None:
    png, _ = kept
    png.with_suffix(".json").write_text('{"kind":"ntkscale figure","version":1,"png":""' + end)
    if end == ',"x":1e999}':
        assert read_figure_data(png) is None  # of another picture, whatever else is in it
    else:
        with pytest.raises(ValueError, match="is damaged"):
            read_figure_data(png)


def test_limits_hold_for_what_is_made_by_hand_too(kept: tuple[Path, FigureData]) -> None:
    _, data = kept
    with pytest.raises(ValueError, match="1 to 64 panels"):
        replace(data, panels=data.panels * 65)
    with pytest.raises(ValueError, match="opacity"):
        replace(data.panels[0].series[0], opacity=2.0)
