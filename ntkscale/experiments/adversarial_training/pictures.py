"""Test images, what the attack adds to them, and what the networks then see."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from ntkscale.experiments.adversarial_training.measures import Trained
from ntkscale.experiments.adversarial_training.pieces import STRIP, TITLES
from ntkscale.experiments.adversarial_training.settings import AdversarialTrainingSettings
from ntkscale.reporting import Picture, house_style, save_figure
from ntkscale.runs import Run

NAMES = {
    "fashion-mnist": ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt",
                      "sneaker", "bag", "ankle boot"),
    "cifar10": ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip
"""Of the classes, where they are not digits."""

_RIGHT, _WRONG = "#009E73", "#D55E00"


def draw_strips(
    run: Run,
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> list[Picture]:
    """The first test images attacked through each training's network of the first seed."""
    seed = own[0].seed
    shown = [one for one in own if one.seed == seed]
    kept = [run.weights(f"{one.cell},images") for one in shown]
    clean = _pixels(kept[0]["clean"].numpy())
    labels = kept[0]["labels"].tolist()
    rows = 1 + 2 * len(shown)
    with house_style():
        figure = Figure(figsize=(1.15 * STRIP + 1.3, 1.32 * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, len(clean), squeeze=False)
        for ax, image, label in zip(axes[0], clean, labels, strict=True):
            _show(ax, image)
            ax.set_title(_class(settings, label), loc="center", fontsize=8)
        _row_label(axes[0][0], "clean")
        for position, (one, tensors) in enumerate(zip(shown, kept, strict=True)):
            attacked = _pixels(tensors["attacked"].numpy())
            added, images = axes[1 + 2 * position], axes[2 + 2 * position]
            for column in range(len(clean)):
                _show_change(added[column], 255 * (attacked[column] - clean[column]) / settings.eps)
                _show(images[column], attacked[column])
                seen = int(tensors["seen_attacked"][column])
                colour = _RIGHT if seen == labels[column] else _WRONG
                before = int(tensors["seen"][column])
                text = _class(settings, seen)
                if before != labels[column]:
                    text += f"\n(clean: {_class(settings, before)})"
                images[column].set_xlabel(text, color=colour, fontsize=7.5)
            _row_label(added[0], "added by\nthe attack")
            _row_label(images[0], f"{TITLES[one.attack]}\ntraining")
    return [
        Picture(
            save_figure(figure, folder, f"images{suffix}")[0],
            f"Test images, what the attack adds, and attacked images, by training{name}.",
            f"Seed {seed}, PGD-{settings.eval_steps} with eps = {settings.eps:.3g} on each "
            f"network. "
            "Added: blue -eps, red +eps (of colours: dark and bright). Below each attacked image "
            "what the network sees in it, green where that is right; in brackets what it saw in "
            "the clean one, if that was wrong already.",
        )
    ]


def _pixels(images: Float[ndarray, "n c h w"]) -> Float[ndarray, "n h w c"]:
    return np.moveaxis(images, 1, -1)


def _show(ax: Axes, image: Float[ndarray, "h w c"]) -> None:
    grey = image.shape[-1] == 1
    ax.imshow(
        image[..., 0] if grey else image.clip(0, 1), cmap="gray", vmin=0, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _show_change(ax: Axes, change: Float[ndarray, "h w c"]) -> None:
    """A change of pixels from -1 to 1: one channel in blue and red, several as colours."""
    _show(ax, 0.5 + change / 2)
    if change.shape[-1] == 1:
        ax.imshow(change[..., 0], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def _row_label(ax: Axes, text: str) -> None:
    ax.set_ylabel(text, fontsize=8, rotation=0, ha="right", va="center", labelpad=6)


def _class(settings: AdversarialTrainingSettings, label: int) -> str:
    number = settings.classes[label] if settings.classes else label
    names = NAMES.get(settings.data)
    return names[number] if names else str(number)
