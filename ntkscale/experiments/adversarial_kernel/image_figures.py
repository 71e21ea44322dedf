"""Images of `train.py adversarial-kernel`: attacked inputs, and what features look like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from ntkscale.experiments.adversarial_kernel.claims import eps_name
from ntkscale.experiments.adversarial_kernel.figures import colour_map
from ntkscale.experiments.adversarial_kernel.measures import class_name, pair_name
from ntkscale.experiments.adversarial_kernel.models import Pair
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.reporting import Picture, house_style, save_figure

_SIDE = 1.05  # inches an image
_ROOM = 0.5  # inches for titles and labels

Image = Float[ndarray, "C H W"]


def draw_attacks(
    saved: dict[str, Tensor], pair: Pair, settings: AdversarialKernelSettings, folder: Path
) -> Picture:
    """Images clean, and attacked through the leading features, an early f_t and all features."""
    models = {
        "leading": f"first {settings.top} features",
        "early": f"stopped at t = {settings.middle_stop:g}",
        "all": "all features",
    }
    count = len(saved["clean"])
    figure, axes = _grid(1 + 2 * len(models), count)
    eps = settings.threat(settings.eps[0]).eps
    clean = saved["clean"].numpy()
    with house_style():
        for column in range(count):
            truth = class_name(settings, pair[int(saved["labels"][column])])
            _show(axes[0][column], clean[column], truth)
            for place, name in enumerate(models):
                moved = saved[f"attacked,{name}"].numpy()[column]
                _show_change(axes[1 + 2 * place][column], moved - clean[column], eps)
                before, after = (float(f[column]) for f in saved[f"outputs,{name}"])
                said = [class_name(settings, pair[int(f > 0)]) for f in (before, after)]
                title = f"{before:+.2f} to {after:+.2f}"
                ax = axes[2 + 2 * place][column]
                _show(ax, moved, title, wrong=said[1] != truth, size=6)
        labels = ["clean image", *(f"{text}\n{models[name]}" for name in models
                                   for text in ("change", "attacked"))]  # fmt: skip
        for row, label in zip(axes, labels, strict=True):
            row[0].set_ylabel(label, fontsize=6.5)
    return Picture(
        save_figure(figure, folder, f"attacks_{pair[0]}-{pair[1]}")[0],
        f"Images attacked through the kernel, {pair_name(settings, pair)}.",
        f"FGSM {eps_name(settings, 0)}. Changes from -eps (blue) to +eps (red), white where a "
        "pixel is at the end of its range already. Above attacked "
        f"images the output before and after; {class_name(settings, pair[0])} is below zero, "
        f"{class_name(settings, pair[1])} above; red: wrong.",
    )


def draw_gradients(
    saved: dict[str, Tensor],
    shown: Sequence[int],
    pair: Pair,
    settings: AdversarialKernelSettings,
    folder: Path,
) -> Picture:
    """Gradient of the loss of single features at one image of each class."""
    figure, axes = _grid(2, len(shown) + 2)
    clean, gradients = saved["clean"].numpy(), saved["gradients"].numpy()
    with house_style():
        for row, image in enumerate((0, len(clean) - 1)):
            _show(axes[row][0], clean[image], class_name(settings, pair[row]))
            for place, index in enumerate(shown):
                title = f"feature {index}" if row == 0 else ""
                _show(axes[row][place + 1], gradients[place, row], title)
            title = "all" if row == 0 else ""
            _show(axes[row][-1], saved["gradients,all"].numpy()[row], title)
    return Picture(
        save_figure(figure, folder, f"gradients_{pair[0]}-{pair[1]}")[0],
        f"Input gradients of single features, {pair_name(settings, pair)}.",
        "Gradient of the logistic loss of one feature at the image on the left, each from its "
        "least value (black) to its largest (white). Feature 0: largest eigenvalue.",
    )


def draw_optimised(
    saved: dict[str, Tensor],
    record: dict[str, Any],
    pair: Pair,
    settings: AdversarialKernelSettings,
    folder: Path,
) -> Picture:
    """Images optimised towards features, for either class."""
    shown = record["shown"]
    figure, axes = _grid(2, len(shown))
    with house_style():
        for label in (0, 1):
            images = saved[f"optimised,{label}"].numpy()
            for place, index in enumerate(shown):
                cosine = record["cosine"][label][place]
                title = f"feature {index}\ncos {cosine:.2f}" if label == 0 else f"cos {cosine:.2f}"
                _show(axes[label][place], images[place], title)
            axes[label][0].set_ylabel(f"towards {class_name(settings, pair[label])}", fontsize=7)
    return Picture(
        save_figure(figure, folder, f"optimised_{pair[0]}-{pair[1]}")[0],
        f"Images optimised towards single features, {pair_name(settings, pair)}.",
        "From grey, sign steps that turn the image's tangent features towards those of an "
        "eigenvector (cos: how far that succeeds), with the sign that the feature learned. Feature "
        "0, the mean image, points to one class alone.",
    )


def draw_ten(
    saved: dict[str, Tensor], settings: AdversarialKernelSettings, folder: Path
) -> Picture:
    """Images of ten classes, clean, changed and attacked, with what the kernel says."""
    clean, moved = saved["clean"].numpy(), saved["attacked"].numpy()
    figure, axes = _grid(3, len(clean))
    eps = settings.threat(settings.eps[0]).eps
    with house_style():
        for column in range(len(clean)):
            truth = int(saved["labels"][column])
            before, after = (int(said[column]) for said in saved["said"])
            _show(axes[0][column], clean[column], class_name(settings, before), before != truth)
            _show_change(axes[1][column], moved[column] - clean[column], eps)
            _show(axes[2][column], moved[column], class_name(settings, after), after != truth)
        for row, label in zip(axes, ("clean", "change", "attacked"), strict=True):
            row[0].set_ylabel(label, fontsize=7)
    return Picture(
        save_figure(figure, folder, "attacks_ten")[0],
        "Images of ten classes attacked through the kernel.",
        f"FGSM {eps_name(settings, 0)}; above each image what the kernel takes it for, red where "
        "that is wrong. Changes from -eps (blue) to +eps (red).",
    )


def _grid(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    with house_style():
        size = (columns * _SIDE + _ROOM, rows * (_SIDE + 0.18) + 0.1)
        figure = Figure(figsize=size, layout="constrained")
        return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def _show(ax: Axes, image: Image, title: str, wrong: bool = False, size: float = 7) -> None:
    """A grey or colour image from 0 to 1."""
    shape = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    ax.imshow(shape, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=size, loc="center", color="#C0392B" if wrong else "k", pad=2)
    _bare(ax)


def _show_change(ax: Axes, change: Image, eps: float) -> None:
    """What was added: signed colours for grey images, around grey for coloured ones."""
    if len(change) == 3:
        ax.imshow((0.5 + change / (2 * eps)).clip(0, 1).transpose(1, 2, 0), interpolation="nearest")
    else:
        ax.imshow(change[0], cmap=colour_map(), vmin=-eps, vmax=eps, interpolation="nearest")
    _bare(ax)


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)


def mean_tables(
    kernels: Sequence[dict[str, Tensor]], place: int
) -> dict[str, Float[ndarray, "M M"]]:
    """Overlap and correlation at one number of features, mean over pairs and seeds."""
    return {
        name: np.mean([kernel[name][place].numpy() for kernel in kernels], axis=0)
        for name in ("overlap", "correlation")
    }
