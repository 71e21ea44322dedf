"""`train.py images`: real images, or anyone's arrays, at several widths and richnesses.

The initial kernel places the task (alpha, beta, hard or easy); training shows whether the loss
falls as predicted, and whether networks of different width learn alike at equal `gamma0`. What is
found is judged in `verdict.py`.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from ntkscale.experiments.cells import Cell, Schedule, thin
from ntkscale.experiments.settings import (
    NAME,
    Floats,
    Integer,
    Ints,
    Number,
    Precision,
    Text,
    Training,
    require_distinct,
    require_positive,
    restore,
    with_preset,
)
from ntkscale.experiments.train_cells import train_cells
from ntkscale.networks import CNN, MLP, Network, Parameterization, ResNet
from ntkscale.runs import Run, RunFolder, RunFolderError
from ntkscale.tasks import DataSet, Loss, Task, arrays, images
from ntkscale.tracking import default_measurements, log_spaced
from ntkscale.training import Optimisation, Trainer

EXPERIMENT = "images"
DATA_SETS = ("digits", "fashion-mnist", "mnist", "cifar10", "cifar100", "cifar5m")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    # One pass over fresh images in many small steps: the kernel's small eigenvalues ask for long
    # flow times, its largest, which grows with richness, for small steps.
    "vision": {
        "data": "fashion-mnist",
        "test_size": 2000,
        "evaluate": 1000,
        "model": "cnn",
        "width": (16, 32),
        "gamma0": (0.03, 0.1, 0.3, 1.0, 3.0),
        "seed": (0, 1),
        "steps": 0,
        "learning_rate": (0.5, 0.4, 0.2, 0.05, 0.015),
        "batch_size": 8,
        "augmentation": "auto",
        "probe": 20,
        "spectrum": 4000,
    },
    # Exact flow, so that what is left between curve and prediction is the network's own.
    "lazy-cnn": {
        "size": 200,
        "test_size": 200,
        # All of them; looked at twelve times a decade, as windows are short.
        "evaluate": 200,
        "model": "cnn",
        "width": (32,),
        "gamma0": (1e-3, 1.0),
        "seed": (0, 1),
        "method": "flow",
        "steps": 1500,
        "learning_rate": (1.0,),
        "batch_size": 0,
        "spectrum": 200,
        "probe": 20,
        "dtype": "float64",
    },
    "fashion-cnn": {
        "data": "fashion-mnist",
        "size": 2000,
        "test_size": 1000,
        "model": "cnn",
        "width": (32, 64, 128),
        "gamma0": (0.1, 1.0, 3.0),
        "steps": 400,
        # Ten outputs for each point make a kernel dear beside so few steps.
        "probe": 20,
    },
}

QUICK: Mapping[str, Mapping[str, Any]] = {
    "vision": {
        "width": (16,),
        "gamma0": (0.03, 1.0),
        "learning_rate": (0.3, 0.05),
        "steps": 3000,
        "spectrum": 1000,
    },
    "lazy-cnn": {"size": 60, "test_size": 60, "evaluate": 60, "width": (16,), "steps": 600},
    "fashion-cnn": {"width": (16, 32), "gamma0": (0.1, 1.0), "steps": 200},
}
"""What `--quick` makes of a preset, before the preset itself."""

FEW_SAMPLES = 16
"""Batches up to which cells are trained side by side, a core each."""

LARGEST_LINEARISED = 4000
"""Training points times outputs up to which the linearised network is solved with all outputs."""


@dataclass(frozen=True)
class ImagesSettings(Training):
    """Networks of several widths learn real images, lazy to rich. Presets: vision, CNNs see each
    Fashion-MNIST image once; lazy-cnn, full batches, curves predicted from K_0; fashion-cnn.
    Data: digits, fashion-mnist, mnist, cifar10, cifar100, cifar5m, X.npz (`inputs`, `targets`).
    """

    preset: Annotated[Literal["none", "vision", "lazy-cnn", "fashion-cnn"], NAME] = "none"
    """one of those above"""
    quick: bool = False
    """rough: smaller, first seed alone"""
    data: Text = "digits"
    """one of those above"""
    data_dir: Text = ""
    """folder of the data set's files"""
    download: bool = False
    """let torchvision fetch it"""
    size: Integer = 0
    """training samples; 0: all"""
    test_size: Integer = 0
    """0: all there are, none for X.npz"""
    evaluate: Integer = 0
    """training samples in losses; 0: all"""
    classes: Ints = ()
    """two of them; unless given, all"""
    loss: Annotated[Loss, NAME] = "mse"
    """mse or cross-entropy"""
    model: Annotated[Literal["mlp", "cnn", "resnet"], NAME] = "mlp"
    """mlp, cnn or resnet"""
    width: Ints = (256,)
    """neurons or channels of a layer"""
    depth: Integer = 2
    """hidden layers, or residual blocks"""
    activation: Text = "relu"
    """or relu2, tanh, erf, gelu, linear"""
    bias: bool = False
    """trained biases"""
    parameterization: Annotated[Parameterization, NAME] = "mean-field"
    """or ntk, standard"""
    gamma0: Floats = (0.1, 1.0)
    """richness; small is lazy"""
    seed: Ints = (0,)
    """of weights and order; first: subset"""
    method: Annotated[Literal["flow", "sgd", "momentum", "adam"], NAME] = "sgd"
    """flow, sgd, momentum or adam"""
    learning_rate: Floats = (0.1,)
    """flow time per step; flow: on average"""
    steps: Integer = 2000
    """steps of each training; 0: one pass"""
    batch_size: Integer = 128
    """at most; 0, and flow: all"""
    schedule: Annotated[Literal["constant", "linear", "cosine"], NAME] = "constant"
    """constant, linear or cosine"""
    warmup: Integer = 0
    """steps of rising learning rate"""
    weight_decay: Number = 0.0
    """times theta, in each step"""
    augmentation: Annotated[Literal["none", "flip", "shift", "auto"], NAME] = "none"
    """flip, shift; auto: shift on repeats"""
    probe: Integer = 64
    """samples that follow the kernel"""
    spectrum: Integer = 512
    """samples for alpha, beta at t = 0"""
    batched: bool = False
    """seeds as one ensemble, one order"""
    compiled: bool = False
    """torch.compile the network"""
    dtype: Annotated[Precision, NAME] = "float32"
    """float32 or float64"""


def expand(settings: ImagesSettings) -> ImagesSettings:
    """The settings with their preset written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    preset = PRESETS[settings.preset]
    if settings.quick:
        preset = {**preset, **QUICK.get(settings.preset, {"width": (64,), "steps": 500})}
    settings = replace(with_preset(settings, preset), preset="none")
    if settings.quick:
        settings = replace(settings, seed=settings.seed[:1], quick=False)
    for eta in settings.learning_rate:
        require_positive(learning_rate=eta)
    require_positive(
        width=settings.width,
        depth=settings.depth,
        gamma0=settings.gamma0,
        probe=settings.probe,
        spectrum=settings.spectrum,
    )
    for name in ("size", "test_size", "evaluate", "steps"):
        if getattr(settings, name) < 0:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} {getattr(settings, name)} must be 0 or above.")
    require_distinct(seed=settings.seed)
    if settings.batch_size < 0:
        raise ValueError(f"--batch-size {settings.batch_size} must be 0 (all) or above.")
    if settings.data not in DATA_SETS and not settings.data.endswith(".npz"):
        raise ValueError(
            f"--data {settings.data} is no data set; choose {', '.join(DATA_SETS)}, or give the "
            "path of an .npz file with arrays `inputs` and `targets`."
        )
    if settings.classes and len(settings.classes) != 2:
        raise ValueError("--classes takes two classes; leave it out to use all of them.")
    if settings.parameterization != "mean-field" and len(settings.gamma0) > 1:
        if settings.gamma0 != (0.1, 1.0):
            raise ValueError(
                f"--parameterization {settings.parameterization} fixes the richness itself; leave "
                "--gamma0 out."
            )
        # One cell a width and seed; its key says what the richness is.
        settings = replace(settings, gamma0=(1.0,))
    if len(settings.learning_rate) not in (1, len(settings.gamma0)):
        raise ValueError(
            f"--learning-rate has {len(settings.learning_rate)} numbers for "
            f"{len(settings.gamma0)} gamma0; give one, or one for each gamma0."
        )
    for eta in settings.learning_rate:
        _optimisation(settings, settings.batch_size + 1, eta)
    return settings


def load_task(settings: ImagesSettings) -> Task:
    """The task of every cell, on the CPU; a subset is drawn by the first seed.

    Raises:
        FileNotFoundError: the data are not there; the sentence names the ways to get them.
        ValueError: they are not what was asked for.
    """
    size, dtype = settings.size or None, getattr(torch, settings.dtype)
    if settings.data.endswith(".npz"):
        return arrays(
            settings.data,
            loss=settings.loss,
            size=size,
            test_size=settings.test_size,
            seed=settings.seed[0],
            dtype=dtype,
        )
    name: DataSet = settings.data  # pyright: ignore[reportAssignmentType]  (checked in expand)
    return images(
        name,
        size=size,
        test_size=settings.test_size or None,
        classes=(settings.classes[0], settings.classes[1]) if settings.classes else "all",
        loss=settings.loss,
        seed=settings.seed[0],
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        download=settings.download,
        dtype=dtype,
    )


def build(settings: ImagesSettings, task: Task, width: int, gamma0: float, seed: int) -> Network:
    """The network of one cell, on the CPU.

    Raises:
        ValueError: the samples are not images where the model needs them.
    """
    outputs, shape = task.targets.shape[1], tuple(task.inputs.shape[1:])
    shared: dict[str, Any] = {
        "width": width,
        "activation": settings.activation,
        "bias": settings.bias,
        "parameterization": settings.parameterization,
        "seed": seed,
        "dtype": getattr(torch, settings.dtype),
    }
    if settings.parameterization == "mean-field":
        shared["gamma0"] = gamma0
    if settings.model == "mlp":
        return MLP(task.inputs[0].numel(), outputs, depth=settings.depth, **shared)
    if len(shape) != 3:
        raise ValueError(
            f"--model {settings.model} needs images (channels, height, width), but the samples of "
            f"{settings.data} have shape {shape}; use --model mlp."
        )
    if settings.model == "cnn":
        return CNN(shape[0], (shape[1], shape[2]), outputs, **shared)
    return ResNet(shape[0], outputs, blocks=settings.depth, **shared)


def _optimisation(settings: ImagesSettings, samples: int, eta: float) -> Optimisation:
    whole = is_full_batch(settings, samples)
    return Optimisation(
        method=settings.method,
        steps=max(settings.steps, 1),
        learning_rate=eta,
        batch_size=None if whole else settings.batch_size,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        augmentation="none" if settings.augmentation == "auto" else settings.augmentation,
    )


def is_full_batch(settings: ImagesSettings, samples: int) -> bool:
    """Whether every step sees all training samples."""
    return settings.method == "flow" or not 0 < settings.batch_size < samples


def _with_data(settings: ImagesSettings, samples: int) -> ImagesSettings:
    """The settings with whatever depends on the number of training samples written out."""
    batch = samples if is_full_batch(settings, samples) else settings.batch_size
    steps = settings.steps or max(samples // batch, 1)
    augmentation = settings.augmentation
    if augmentation == "auto":
        augmentation = "shift" if steps * batch > samples else "none"
    return replace(settings, size=samples, steps=steps, augmentation=augmentation)


def run(settings: ImagesSettings) -> RunFolder | None:
    """Train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    groups: list[Sequence[Cell]] = []
    task = load_task(settings)
    settings = _with_data(settings, len(task.inputs))
    exact = (
        is_full_batch(settings, len(task.inputs))
        and settings.loss == "mse"
        and settings.method != "adam"
        and task.targets.numel() <= LARGEST_LINEARISED
        and settings.dtype == "float64"
    )
    rates = settings.learning_rate * (
        len(settings.gamma0) if len(settings.learning_rate) == 1 else 1
    )
    for width in settings.width:
        for gamma0, eta in zip(settings.gamma0, rates, strict=True):
            optimisation = _optimisation(settings, len(task.inputs), eta)
            schedule = _schedule(settings, optimisation, task, width)
            first = build(settings, task, width, gamma0, settings.seed[0])
            richness = gamma0
            if settings.parameterization == "ntk":
                richness = 1 / math.sqrt(first.readout_fan_in)
            # Refused here and now, not when a folder has been made.
            Trainer(first, task, optimisation)
            # K_0 does not depend on gamma0, so the first one speaks for all.
            speaks = gamma0 == settings.gamma0[0]
            cells = [
                Cell(
                    key={"width": width, "gamma0": richness, "seed": seed},
                    build=lambda w=width, g=gamma0, s=seed: build(settings, task, w, g, s),
                    task=task,
                    schedule=schedule,
                    probe=settings.probe,
                    spectrum=settings.spectrum if speaks else None,
                    linearised=exact and speaks,
                    observed=settings.evaluate or None,
                    learning_rate=eta,
                    horizon=schedule.losses[-1] if settings.method == "flow" else None,
                    compiled=settings.compiled,
                )
                for seed in settings.seed
            ]
            groups.extend([cells] if settings.batched else [[cell] for cell in cells])
    # Cells have their own learning rates.
    shared = _optimisation(settings, len(task.inputs), rates[0])
    return train_cells(
        EXPERIMENT,
        settings,
        groups,
        shared,
        # Steps on a few samples keep one core busy and no more.
        automatic_workers=os.cpu_count() or 1 if 0 < settings.batch_size <= FEW_SAMPLES else 1,
    )


def settings_of(run: Run) -> ImagesSettings:
    """The options with which a run was made.

    Raises:
        RunFolderError: an earlier version wrote it, with options that this one does not have.
    """
    if not isinstance(run.config.get("learning_rate"), list):
        raise RunFolderError(
            f"{run.path} was written by an earlier version, in which --learning-rate took one "
            "number; train it again, under another --name."
        )
    return expand(restore(ImagesSettings, run.config, run.path))


def _schedule(
    settings: ImagesSettings, optimisation: Optimisation, task: Task, width: int
) -> Schedule:
    """Some looks a decade at the losses, and as many at the kernel as cost under 5 %.

    Twelve looks a decade where only a part of the training set is looked at, else five.
    """
    samples, outputs = task.targets.shape
    if optimisation.has_flow_time:
        first = optimisation.learning_rate
        last = optimisation.flow_time(optimisation.learning_rate) * settings.steps
    else:
        first, last = 1.0, float(settings.steps)
    decades = max(math.log10(last / first), 0.2)
    density = 12 if settings.evaluate else 5
    times = log_spaced(first, last, math.ceil(density * decades) + 1)
    count = default_measurements(
        settings.steps,
        optimisation.batch_size or samples,
        min(settings.probe, samples),
        outputs,
        model=build(settings, task, width, settings.gamma0[0], 0),
        inputs=task.inputs,
    )
    kernels = thin(times, count)
    return Schedule(times, kernels, thin(sorted(kernels), 6), expected_end=last)
