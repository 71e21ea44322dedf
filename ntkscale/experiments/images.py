"""`train.py images`: real images, or anyone's arrays, at several widths and richnesses.

The initial kernel places the task (alpha, beta, hard or easy); training shows whether the loss
falls as predicted, and whether networks of different width learn alike at equal `gamma0`. What is
found is judged in `images_verdict.py`.
"""

import math
from collections.abc import Sequence
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
    with_preset,
)
from ntkscale.experiments.train_cells import train_cells
from ntkscale.networks import CNN, MLP, Network, Parameterization, ResNet
from ntkscale.runs import RunFolder
from ntkscale.tasks import DataSet, Loss, Task, arrays, images
from ntkscale.tracking import default_measurements, log_spaced
from ntkscale.training import Optimisation, Trainer

EXPERIMENT = "images"
DATA_SETS = ("digits", "fashion-mnist", "mnist", "cifar10")


@dataclass(frozen=True)
class ImagesSettings(Training):
    """Networks of several widths learn real images, lazy to rich."""

    preset: Annotated[Literal["none", "fashion-cnn"], NAME] = "none"
    """fashion-cnn: 3 widths x 3 gamma0"""
    data: Text = "digits"
    """or fashion-mnist, mnist, cifar10, X.npz"""
    data_dir: Text = ""
    """folder of the data set's files"""
    download: bool = False
    """let torchvision fetch it"""
    size: Integer = 0
    """training samples; 0: all"""
    test_size: Integer = 0
    """0: all there are, none for X.npz"""
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
    learning_rate: Number = 0.1
    """flow time a step; flow ends at x steps"""
    steps: Integer = 2000
    """steps of each training"""
    batch_size: Integer = 128
    """at most; 0, and flow: all"""
    schedule: Annotated[Literal["constant", "linear", "cosine"], NAME] = "constant"
    """constant, linear or cosine"""
    warmup: Integer = 0
    """steps of rising learning rate"""
    weight_decay: Number = 0.0
    """times theta, in each step"""
    augmentation: Annotated[Literal["none", "flip", "shift"], NAME] = "none"
    """none, flip or shift"""
    probe: Integer = 64
    """samples that follow the kernel"""
    spectrum: Integer = 512
    """samples for alpha, beta at t = 0"""
    batched: bool = False
    """seeds as one ensemble, one data order"""
    compiled: bool = False
    """torch.compile the network"""
    dtype: Annotated[Precision, NAME] = "float32"
    """float32 or float64"""


def expand(settings: ImagesSettings) -> ImagesSettings:
    """The settings with their preset written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    presets: dict[str, dict[str, Any]] = {
        "none": {},
        "fashion-cnn": {
            "data": "fashion-mnist",
            "size": 2000,
            "test_size": 1000,
            "model": "cnn",
            "width": (32, 64, 128),
            "gamma0": (0.1, 1.0, 3.0),
            "steps": 400,
            "learning_rate": 0.1,
            # Ten outputs for each point make a kernel dear beside so few steps.
            "probe": 20,
        },
    }
    settings = replace(with_preset(settings, presets[settings.preset]), preset="none")
    require_positive(
        width=settings.width,
        depth=settings.depth,
        gamma0=settings.gamma0,
        learning_rate=settings.learning_rate,
        steps=settings.steps,
        probe=settings.probe,
        spectrum=settings.spectrum,
    )
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
    _optimisation(settings, settings.batch_size + 1)
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


def _optimisation(settings: ImagesSettings, samples: int) -> Optimisation:
    whole = settings.method == "flow" or not 0 < settings.batch_size < samples
    return Optimisation(
        method=settings.method,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        batch_size=None if whole else settings.batch_size,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        augmentation=settings.augmentation,
    )


def run(settings: ImagesSettings) -> RunFolder | None:
    """Train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    groups: list[Sequence[Cell]] = []
    task = load_task(settings)
    optimisation = _optimisation(settings, len(task.inputs))
    for width in settings.width:
        schedule = _schedule(settings, optimisation, task, width)
        for gamma0 in settings.gamma0:
            first = build(settings, task, width, gamma0, settings.seed[0])
            richness = gamma0
            if settings.parameterization == "ntk":
                richness = 1 / math.sqrt(first.readout_fan_in)
            # Refused here and now, not when a folder has been made.
            Trainer(first, task, optimisation)
            cells = [
                Cell(
                    key={"width": width, "gamma0": richness, "seed": seed},
                    build=lambda w=width, g=gamma0, s=seed: build(settings, task, w, g, s),
                    task=task,
                    schedule=schedule,
                    probe=settings.probe,
                    # K_0 does not depend on gamma0, so the first one speaks for all.
                    spectrum=settings.spectrum if gamma0 == settings.gamma0[0] else None,
                    horizon=schedule.losses[-1] if settings.method == "flow" else None,
                    compiled=settings.compiled,
                )
                for seed in settings.seed
            ]
            groups.extend([cells] if settings.batched else [[cell] for cell in cells])
    return train_cells(EXPERIMENT, settings, groups, optimisation, automatic_workers=1)


def _schedule(
    settings: ImagesSettings, optimisation: Optimisation, task: Task, width: int
) -> Schedule:
    """Five looks a decade at the losses, and as many at the kernel as cost under 5 %."""
    samples, outputs = task.targets.shape
    if optimisation.has_flow_time:
        first = settings.learning_rate
        last = optimisation.flow_time(settings.learning_rate) * settings.steps
    else:
        first, last = 1.0, float(settings.steps)
    decades = max(math.log10(last / first), 0.2)
    times = log_spaced(first, last, math.ceil(5 * decades) + 1)
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
