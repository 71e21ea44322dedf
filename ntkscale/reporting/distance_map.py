"""Distances between a quantity at all pairs of times, as a map."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy import ndarray


def draw_distance_map(
    ax: Axes,
    times: Float[ndarray, "T"],
    distances: Float[ndarray, "T T"],
    *,
    unit: str,
    title: str,
    largest: float | None = None,
) -> QuadMesh:
    """Fill `ax`; returns what a colour bar is made of.

    Args:
        ax: to draw into.
        times: ascending.
        distances: between all pairs of them.
        unit: of the times.
        title: of the panel.
        largest: end of the colour scale, which begins at 0; None: this map's own scale.
    """
    # Cells as wide as the looks are apart: edges lie half-way between them.
    inner = (times[1:] + times[:-1]) / 2
    edges = np.concatenate([times[:1], inner, times[-1:]])
    low = None if largest is None else 0.0
    mesh = ax.pcolormesh(edges, edges, distances, cmap="viridis", vmin=low, vmax=largest)
    ax.grid(visible=False)
    ax.set_aspect("equal")
    ax.set(xlabel=f"time s [{unit}]", ylabel=f"time t [{unit}]", title=title)
    return mesh
