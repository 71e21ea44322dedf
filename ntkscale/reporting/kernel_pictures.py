"""Kernel matrices side by side, on one colour scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ntkscale.reporting.style import house_style
from ntkscale.schema import Axis

_SIDE = 1.75  # inches a picture
_ROOM = 0.8  # inches for the colour bar beside them, for labels and titles above and below


def draw_kernel_pictures(
    matrices: Sequence[ArrayLike],
    times: Sequence[float],
    *,
    title: str = "",
    samples: str = "probe point",
    axis: Axis = "time",
) -> Figure:
    """A strip of kernels K_t, one a time, with a shared colour scale and its bar.

    The scale runs over all matrices: from zero where none has a negative entry, symmetric about
    zero (white) otherwise.

    Args:
        matrices: (n, n) each, in the order of the probe points.
        times: flow time of each, or steps.
        title: above the strip.
        samples: what rows and columns are.
        axis: whether the kernels stand at flow times or at steps.

    Raises:
        ValueError: no matrices, matrices of different shapes, or not one time for each.
    """
    kernels = [np.asarray(matrix, dtype=np.float64) for matrix in matrices]
    shapes = sorted({kernel.shape for kernel in kernels})
    if len(shapes) != 1 or len(shapes[0]) != 2 or len(kernels) != len(times):
        raise ValueError(
            f"{len(kernels)} kernels of shapes {shapes} at {len(times)} times are no strip; give "
            "matrices of one shape and a time for each."
        )
    largest = max((float(np.nanmax(np.abs(k), initial=0.0)) for k in kernels), default=0.0) or 1.0
    signed = any(float(np.nanmin(kernel, initial=0.0)) < 0 for kernel in kernels)
    with house_style():
        figure = Figure(figsize=(len(kernels) * _SIDE + _ROOM, _SIDE + _ROOM), layout="constrained")
        axes = figure.subplots(1, len(kernels), squeeze=False, sharex=True, sharey=True)[0]
        scale = Normalize(-largest if signed else 0.0, largest)
        colours = ScalarMappable(scale, "RdBu_r" if signed else "viridis")
        for ax, kernel, time in zip(axes, kernels, times, strict=True):
            ax.imshow(kernel, norm=scale, cmap=colours.cmap)
            moment = f"t = {time:.3g}" if axis == "time" else f"step {time:,.0f}"
            ax.set_title(moment, loc="center")
            ax.grid(visible=False)
            ax.set_xlabel(f"{samples} [index]")
            ax.tick_params(labelsize=6.5)
            # Shared by all pictures of the strip.
            for ticks in (ax.xaxis, ax.yaxis):
                ticks.set_major_locator(MaxNLocator(5, integer=True))
        axes[0].set_ylabel(f"{samples} [index]")
        figure.colorbar(colours, ax=list(axes), label="K(x, x') [1]", shrink=0.85, pad=0.01)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure
