"""Data, kernels and networks of `train.py adversarial-kernel`."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.settings import data_folder, resolve_device
from ntkscale.networks import CNN, MLP
from ntkscale.robustness import InfiniteWidthKernel, KernelPredictor, NetworkKernel
from ntkscale.robustness.expansion import Kernel
from ntkscale.tasks import Task, images

_OTHER = 1_000_000
"""Seeds of networks that lend their kernel begin here, so that none is a network it attacks."""

Pair = tuple[int, int]


def pair_task(
    settings: AdversarialKernelSettings, pair: Pair | None, seed: int, size: int | None = None
) -> Task:
    """Two classes, or all (None), as pixels; targets of two are -1 and +1.

    Raises:
        ValueError: more samples than there are.
        FileNotFoundError: the data are not there.
    """
    task = images(
        settings.data,
        size=settings.size if size is None else size or None,
        test_size=settings.test_size or None,
        classes="all" if pair is None else pair,
        scale="pixels",
        seed=seed,
        data_dir=data_folder(settings.data_dir),
        download=settings.download,
    )
    return task.to(resolve_device(settings.device))


def held_out(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, training: int
) -> tuple[Tensor, Tensor]:
    """Up to `--held-out` samples of a pair that are not among the first `training`, and labels.

    Those of the data set's training part come first, then its test samples.
    """
    task = pair_task(replace(settings, test_size=0), pair, seed, size=0)
    x, labels = tested(task)
    assert task.labels is not None
    x = torch.cat([task.inputs[training:], x])[: settings.held_out]
    return x, torch.cat([task.labels[training:], labels])[: settings.held_out]


def tested(task: Task, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first test inputs, all by default, and their labels."""
    assert task.test_inputs is not None and task.test_labels is not None  # every task here has them
    return task.test_inputs[:count], task.test_labels[:count]


def predictor(settings: AdversarialKernelSettings, task: Task) -> KernelPredictor:
    """The kernel that is taken apart, fitted: the paper's, or that of a wide CNN."""
    if settings.kernel == "cnn":
        network = build(settings, task, settings.channels, None, _OTHER)
        return KernelPredictor(NetworkKernel(network), task.inputs, task.targets)
    return KernelPredictor(InfiniteWidthKernel(settings.depth), task.inputs, task.targets)


def limit_of_networks(settings: AdversarialKernelSettings, task: Task) -> Kernel:
    """The kernel that attacks networks: their own at infinite width; or that of a wide CNN.

    For the CNN the limit is too expensive on images, so it is that of a network with other weights.
    """
    if settings.kernel == "cnn":
        return NetworkKernel(build(settings, task, settings.channels, None, _OTHER))
    return InfiniteWidthKernel(
        settings.depth, weight_variance=1.0, bias_variance=0.0, readout_bias=False, normalised=None
    )


def build(
    settings: AdversarialKernelSettings, task: Task, width: int, gamma0: float | None, seed: int
) -> nn.Module:
    """A network at its initialisation, centred and without biases, whose limit is known.

    Where gamma0 is None it is as lazy as in the paper: the NTK parameterization with weights of
    variance 2 is the mean-field one with gamma0 = 1 / sqrt(2^(L + 1) N), N the read-out's fan-in.
    """
    shape, outputs = tuple(task.inputs.shape[1:]), task.outputs
    if settings.kernel == "mlp":
        return mlp(task, width, settings.depth, gamma0, seed)
    fan_in = width * (shape[1] // 4) * (shape[2] // 4)
    richness = gamma0 or (2**3 * fan_in) ** -0.5
    network = CNN(
        shape[0], (shape[1], shape[2]), outputs, width=width, seed=seed, gamma0=richness
    )  # fmt: skip
    return network.to(task.inputs.device)


def mlp(task: Task, width: int, depth: int, gamma0: float | None, seed: int) -> MLP:
    """A fully connected network, as `build`."""
    inputs, outputs = task.inputs[0].numel(), task.outputs
    richness = gamma0 or (2 ** (depth + 1) * width) ** -0.5
    network = MLP(inputs, outputs, width=width, depth=depth, seed=seed, gamma0=richness)
    return network.to(task.inputs.device)
