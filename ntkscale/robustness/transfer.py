"""Do attacks made on one model work on another, and do their gradients point the same way."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss, correct
from ntkscale.robustness.controls import random_signs
from ntkscale.robustness.fgsm import fgsm
from ntkscale.robustness.loss_gradient import Model, loss_gradient, outputs_of
from ntkscale.robustness.threat import Threat

Attack = Callable[[Model, Tensor, Tensor, Threat], Tensor]
"""(model, x, labels, threat) to adversarial inputs, such as `fgsm`, `pgd` or `apgd`."""


@dataclass(frozen=True)
class Mean:
    """A mean over n samples or seeds, with a 95 % interval from their spread.

    Attributes:
        value, low, high: nan bounds for a single one.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Float[Tensor, "n"]) -> "Mean":
        """By Student's t."""
        values = values.double()
        value, n = float(values.mean()), len(values)
        if n < 2:
            return cls(value, math.nan, math.nan)
        error = float(student.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n)
        return cls(value, value - error, value + error)


@dataclass(frozen=True)
class Transfer:
    """Which samples one model gets right, clean, under controls and attacked through other models.

    Attributes:
        right: by row: ``"clean"``, ``"random signs"``, ``"own"`` and the names of the sources.
    """

    right: Mapping[str, Bool[Tensor, "n"]]

    def accuracy(self, row: str) -> Mean:
        """Share of a row, with the exact binomial interval."""
        right = self.right[row]
        found = binomtest(int(right.sum()), len(right)).proportion_ci(method="exact")
        return Mean(float(right.double().mean()), float(found.low), float(found.high))

    def drop(self, row: str) -> Mean:
        """What an attack costs: clean less attacked accuracy, sample by sample."""
        return Mean.of(self.right["clean"].double() - self.right[row].double())


def transfer(
    model: Model,
    sources: Mapping[str, Model],
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    threat: Threat,
    *,
    attack: Attack = fgsm,
    seed: int = 0,
) -> Transfer:
    """Accuracy of a model on inputs attacked through others, beside its own attack and noise.

    Args:
        model: the one that is evaluated; like every source a callable x -> outputs.
        sources: by name, the models that inputs are attacked through, such as a kernel's
            `Expansion`. They know the labels; the model they never see.
        x, labels, threat: as `fgsm`.
        attack: of sources and of the model itself.
        seed: of the random signs.

    Raises:
        ValueError: as the attack; a source by the name of a control.

    Source: the transfer protocol of Tsilivis & Kempe 2022 (arXiv 2210.05577, section 3).
    """
    taken = {"clean", "random signs", "own"} & sources.keys()
    if taken:
        raise ValueError(f"a source is called {min(taken)!r}, as a control is: rename it.")
    inputs = {"clean": x, "random signs": random_signs(x, threat, seed=seed)}
    inputs["own"] = attack(model, x, labels, threat)
    for name, source in sources.items():
        inputs[name] = attack(source, x, labels, threat)
    return Transfer({k: correct(outputs_of(model, v), labels).cpu() for k, v in inputs.items()})


def gradient_cosine(
    first: Model,
    second: Model,
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    *,
    loss: Loss = "auto",
) -> Float[Tensor, "n"]:
    """Cosine of two models' loss gradients in every sample, float64; 0 where one of them is zero.

    `Mean.of` has its mean and interval. Between random directions its spread is 1 / sqrt(D).

    Raises:
        ValueError: as `loss_gradient`.
    """
    gradients = [loss_gradient(model, x, labels, loss)[1] for model in (first, second)]
    a, b = (g.detach().flatten(1).double() for g in gradients)
    a, b = (g / g.abs().amax(1, keepdim=True).clamp_min(1e-300) for g in (a, b))
    length = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b.to(a)).sum(1) / torch.where(length > 0, length, 1.0)
