"""A kernel's spectrum and the target's power along it, with the exponents read off them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ntkscale.reporting.style import colour_of, house_style, legend
from ntkscale.scaling import SourceCapacity


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues, and the power of a target on their eigenvectors.

    Attributes:
        label: for the legend; empty for none.
        eigenvalues: (P,) descending, of K / P.
        power: (P,) squared target coefficients, or None where only the spectrum is drawn.
        tail: target power beyond them all.
        measured: alpha and beta fitted to them, drawn over their window.
        colour: any of matplotlib's; None: the next of the house.
        theory: drawn dotted, as what is computed and not measured.
    """

    label: str
    eigenvalues: ArrayLike
    power: ArrayLike | None = None
    tail: float = 0.0
    measured: SourceCapacity | None = None
    colour: str | None = None
    theory: bool = False


def draw_spectrum(ax: Axes, spectra: Sequence[Spectrum], *, title: str = "") -> None:
    """Eigenvalues against their index, with the line of each alpha."""
    colours = [spectrum.colour for spectrum in spectra]
    with house_style():
        ax.set(
            xscale="log", yscale="log", xlabel="index k [1]", ylabel="eigenvalue of K / P, k-th [1]"
        )
        for position, spectrum in enumerate(spectra):
            values = np.asarray(spectrum.eigenvalues, dtype=np.float64)
            index = np.arange(1, len(values) + 1)
            colour = colour_of(colours, position)
            _draw(ax, index, values, spectrum, colour)
            if spectrum.measured is not None:
                m = spectrum.measured
                _draw_line(ax, index, values, m, m.alpha, m.alpha_interval, "alpha", -1)
        _finish(ax, title)


def draw_source(ax: Axes, spectra: Sequence[Spectrum], *, title: str = "") -> None:
    """Target power above each eigenvalue, plus tail, against the eigenvalue; slope beta.

    Raises:
        ValueError: a spectrum without power.
    """
    colours = [spectrum.colour for spectrum in spectra]
    with house_style():
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="eigenvalue of K / P, k-th [1]",
            ylabel="target power above k, with tail [target²]",
        )
        for position, spectrum in enumerate(spectra):
            if spectrum.power is None:
                raise ValueError(f"spectrum {spectrum.label!r} has no power; give the target's.")
            values = np.asarray(spectrum.eigenvalues, dtype=np.float64)
            power = np.asarray(spectrum.power, dtype=np.float64)
            # Summed from the small end, so that the last entries keep their digits.
            above = np.append(np.cumsum(power[::-1])[::-1][1:], 0.0) + spectrum.tail
            colour = colour_of(colours, position)
            _draw(ax, values, above, spectrum, colour)
            if spectrum.measured is not None:
                m = spectrum.measured
                _draw_line(ax, values, above, m, m.beta, m.beta_interval, "beta", 1)
        # Learning goes from large eigenvalues to small ones: the same direction as index and time.
        ax.invert_xaxis()
        _finish(ax, title)


def _draw(
    ax: Axes,
    x: NDArray[np.float64] | NDArray[np.int64],
    y: NDArray[np.float64],
    spectrum: Spectrum,
    colour: str,
) -> None:
    shown = (x > 0) & (y > 0)
    ax.plot(
        x[shown],
        y[shown],
        linestyle=":" if spectrum.theory else "none",
        marker=None if spectrum.theory else ".",
        markersize=3.5,
        color=colour,
        label=spectrum.label or None,
    )


def _draw_line(
    ax: Axes,
    x: NDArray[np.float64] | NDArray[np.int64],
    y: NDArray[np.float64],
    measured: SourceCapacity,
    exponent: float,
    interval: tuple[float, float],
    name: str,
    sign: int,
) -> None:
    """The line y ~ x^(sign * exponent) through the middle of the window."""
    first, last = measured.window
    ends = np.asarray([x[first - 1], x[last - 1]], dtype=np.float64)
    window = slice(first - 1, last)
    centre_x, centre_y = np.log(x[window]).mean(), np.log(y[window]).mean()
    line = np.exp(centre_y + sign * exponent * (np.log(ends) - centre_x))
    label = f"   {name} {exponent:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
    ax.plot(ends, line, color="#202020", linestyle=(0, (4, 3)), linewidth=1.0, label=label)


def _finish(ax: Axes, title: str) -> None:
    if title:
        ax.set_title(title)
    legend(ax)
