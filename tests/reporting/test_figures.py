"""What is drawn is what was given, with labels, units and the exponents of the fits."""

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from ntkscale.reporting import (
    COLOURS,
    Curve,
    Spectrum,
    axis_label,
    draw_curves,
    draw_kernel_pictures,
    draw_source,
    draw_spectrum,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.reporting.figure_reading import figure_data
from ntkscale.scaling import fit_power_law, source_capacity
from ntkscale.schema import QUANTITIES


@pytest.fixture(autouse=True)
def untouched_settings() -> Iterator[None]:
    """No drawing may change the settings of the reader's own figures, or start pyplot."""
    before, pyplot = dict(mpl.rcParams), "matplotlib.pyplot" in sys.modules
    yield
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]  # pyright: ignore[reportOptionalMemberAccess]


def slope_of(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def test_every_quantity_has_a_label_with_its_unit() -> None:
    for name in QUANTITIES:
        assert "[" in axis_label(name)
    assert axis_label("mse") == "mse [target²]"
    with pytest.raises(ValueError, match="'loss2'"):
        axis_label("loss2")


def test_curves_show_their_positive_points_and_their_fits(rng: np.random.Generator) -> None:
    exponent = rng.uniform(0.3, 1.5)
    x = np.geomspace(1, 1000, 60)
    y = 3 * x**-exponent * np.exp(rng.normal(0, 0.01, 60))
    fit = fit_power_law(x, y, window=(2.0, 500.0))
    dented = y.copy()
    dented[[3, 5, 7]] = 0.0, np.nan, -1.0
    _, (left, right) = new_figure(2)
    draw_curves(left, [Curve("rich", x, dented, fit=fit)], window=(2.0, 500.0), title="Loss")
    draw_curves(right, [Curve("K", x, y, theory=True)], quantity="kernel_distance", against="step")
    line, dashed = left.get_lines()
    keep = [i for i in range(60) if i not in (3, 5, 7)]
    assert np.array_equal(line.get_xydata(), np.column_stack([x, y])[keep])
    fx, fy = np.asarray(dashed.get_xydata()).T
    assert (fx[0], fx[-1]) == pytest.approx(fit.window)
    assert slope_of(fx, fy) == pytest.approx(-fit.exponent)
    shown = f"slope {-fit.exponent:.3f} [{-fit.interval[1]:.3f}, {-fit.interval[0]:.3f}]"
    assert [text.strip() for text in labels(left)] == ["rich", shown]
    assert (left.get_xlabel(), left.get_ylabel()) == (axis_label("time"), "mse [target²]")
    assert (right.get_xlabel(), right.get_ylabel()) == ("step [steps]", "kernel distance [1]")
    assert left.get_xscale() == left.get_yscale() == "log" and left.get_title(loc="left") == "Loss"
    assert right.get_lines()[0].get_linestyle() == ":"


def test_a_refused_fit_is_drawn_as_such(rng: np.random.Generator) -> None:
    x = np.geomspace(1, 100, 40)
    fit = fit_power_law(x, np.exp(-x / 10))
    assert not fit.is_power_law
    _, (ax,) = new_figure()
    draw_curves(ax, [Curve("exponential", x, np.exp(-x / 10), fit=fit)])
    assert "no power law" in labels(ax)[1]


def test_curves_of_different_lengths_are_refused() -> None:
    _, (ax,) = new_figure()
    with pytest.raises(ValueError, match="curve 'a' has x of shape"):
        draw_curves(ax, [Curve("a", [1.0, 2.0], [1.0])])


def test_a_long_legend_stands_beside_the_curves() -> None:
    figure, (ax,) = new_figure()
    draw_curves(ax, [Curve(f"c{i}", [1, 2], [i + 1, i + 2]) for i in range(9)])
    figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend is not None and legend.get_window_extent().x0 >= ax.get_window_extent().x1


def test_spectrum_and_source_show_alpha_and_beta(rng: np.random.Generator) -> None:
    alpha, beta, tail = rng.uniform(1.2, 2.5), rng.uniform(0.3, 1.2), 0.0
    index = np.arange(1.0, 401.0)
    values = index**-alpha
    power = -np.diff(np.append(values, 401.0**-alpha) ** beta)
    tail = 401.0 ** (-alpha * beta)
    measured = source_capacity(values, power, tail=tail)
    spectrum = Spectrum("ReLU", values, power, tail=tail, measured=measured)
    _, (left, right) = new_figure(2)
    draw_spectrum(left, [spectrum, Spectrum("theory", values, theory=True)])
    draw_source(right, [spectrum])
    line = np.asarray(left.get_lines()[1].get_xydata())
    assert slope_of(*line.T) == pytest.approx(-measured.alpha)
    assert line[:, 0].tolist() == list(measured.window)
    assert line[:, 1] == pytest.approx(line[:, 0] ** -alpha, rel=0.02)
    points, source = (np.asarray(entry.get_xydata()) for entry in right.get_lines())
    # power above k plus tail is exactly eigenvalue_(k+1) ** beta here
    assert points[:, 1] == pytest.approx((index + 1) ** (-alpha * beta))
    assert slope_of(*source.T) == pytest.approx(measured.beta)
    assert f"alpha {measured.alpha:.3f} [" in labels(left)[1]
    assert f"beta {measured.beta:.3f} [" in labels(right)[1]
    assert right.xaxis_inverted()
    for ax in (left, right):
        assert "[" in ax.get_xlabel() and "[" in ax.get_ylabel()
    with pytest.raises(ValueError, match="'theory' has no power"):
        draw_source(right, [Spectrum("theory", values)])


def test_kernel_pictures_share_one_scale(rng: np.random.Generator) -> None:
    n = int(rng.integers(3, 9))
    kernels = [scale * rng.random((n, n)) for scale in (1.0, 5.0, 2.0)]
    figure = draw_kernel_pictures(kernels, [0.0, 1.0, 10.0], title="K")
    *pictures, bar = figure.axes
    scales = {ax.images[0].get_clim() for ax in pictures}
    assert scales == {(0.0, max(kernel.max() for kernel in kernels))}
    for ax, kernel in zip(pictures, kernels, strict=True):
        assert np.array_equal(np.asarray(ax.images[0].get_array()), kernel)
    assert [ax.get_title() for ax in pictures] == ["t = 0", "t = 1", "t = 10"]
    assert "[1]" in bar.get_ylabel()
    signed = draw_kernel_pictures([-k for k in kernels], [0.0, 1.0, 2.0])
    low, high = signed.axes[0].images[0].get_clim()
    assert low == -high < 0
    for wrong in ([], [np.ones((2, 2)), np.ones((3, 3))], [np.ones(3)]):
        with pytest.raises(ValueError, match="are no strip"):
            draw_kernel_pictures(wrong, [0.0] * len(wrong))
    with pytest.raises(ValueError, match="are no strip"):
        draw_kernel_pictures(kernels, [0.0])


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = np.geomspace(1, 100, 20), rng.lognormal(size=20)
    for folder in ("a", "b"):
        figure, axes = new_figure(2)
        draw_curves(axes[0], [Curve("one", x, y), Curve("two", x, 2 * y)], window=(2, 50))
        draw_spectrum(axes[1], [Spectrum("s", np.sort(y)[::-1])])
        paths = save_figure(figure, tmp_path / folder, "loss")
        assert [path.name for path in paths] == ["loss.png", "loss.pdf"]
    for name in ("loss.png", "loss.pdf", "loss.json"):
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes() and len(content) > 1000
    assert b"CreationDate" not in (tmp_path / "a/loss.pdf").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "loss.json",
        "loss.pdf",
        "loss.png",
    ]


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_a_logarithmic_axis_with_nothing_above_zero_is_drawn_empty(tmp_path: Path) -> None:
    figure, (axes,) = new_figure()
    axes.plot([1.0, 2.0], [np.nan, np.nan])
    axes.set_yscale("log")
    axes.yaxis.set_view_interval(-0.05, 0.05, ignore=True)
    save_figure(figure, tmp_path, "nothing")
    assert (tmp_path / "nothing.png").exists() and axes.get_ylim() == (1.0, 10.0)


def test_limits_that_are_no_numbers_are_left_to_the_picture() -> None:
    figure, (axes,) = new_figure()
    axes.plot([1.0, 2.0], [1.0, 2.0])
    assert figure_data(figure) is not None
    axes.xaxis.set_view_interval(np.nan, np.nan, ignore=True)
    assert figure_data(figure) is None


def test_a_ladder_brightens_step_by_step_and_stays_visible() -> None:
    for count in (1, 2, 5, 9):
        light = [luminance(colour) for colour in ladder(count)]
        assert len(light) == count and light == sorted(light)
        assert max(light) < 0.65  # against white
    assert len(set(COLOURS)) == len(COLOURS)
