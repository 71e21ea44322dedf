"""The attacks of one run: in training, on test samples and on the probe."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ntkscale.robustness import Threat, correct, fgsm, pgd, robust_accuracy
from ntkscale.robustness.attack_losses import LossName
from ntkscale.tasks import Task
from ntkscale.tracking.evaluation import evaluating

_LOSSES: tuple[LossName, ...] = ("cross-entropy", "margin")
_BATCH = 500
"""Test samples attacked at a time."""


@dataclass(frozen=True)
class Attacks:
    """FGSM and PGD that change no pixel by more than eps, from 0 to 1, without random starts.

    They see networks in evaluation mode, whatever mode they are in.

    Attributes:
        eps: largest change of a pixel.
        train_steps: of PGD in training.
        step_size: of PGD in training; 0: 2.5 eps over the steps.
        eval_steps: of PGD in evaluation, whose steps are 2.5 eps over their number.
    """

    eps: float
    train_steps: int
    step_size: float
    eval_steps: int

    @property
    def threat(self) -> Threat:
        """The ball, and the range of pixels."""
        return Threat(self.eps)

    def adversary(self, name: str) -> Callable[[nn.Module, Tensor, Tensor], Tensor] | None:
        """What a trainer takes; None for standard training."""
        if name == "none":
            return None
        if name == "fgsm":
            return self._fgsm

        def by_pgd(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
            size = self.step_size or None
            with evaluating(model):
                return pgd(model, x, labels, self.threat, steps=self.train_steps, step_size=size)

        return by_pgd

    def on(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Samples under the attack of evaluation."""
        with evaluating(model):
            return pgd(model, x, labels, self.threat, steps=self.eval_steps)

    def accuracies(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Shares of test samples that stay right under one step, and under the attack above."""
        x, labels = task.test_inputs, task.test_labels
        assert x is not None and labels is not None  # every task here has a test set
        attacks: dict[str, Callable[[Any, Tensor, Tensor], Tensor]]
        attacks = {"fgsm_accuracy": self._fgsm, "robust_accuracy": self.on}
        with evaluating(model):
            return {
                name: robust_accuracy(model, x, labels, attack, batch_size=_BATCH).robust
                for name, attack in attacks.items()
            }

    def worst(self, model: nn.Module, task: Task, through: Sequence[nn.Module] = ()) -> float:
        """Share of test samples that stay right under PGD on cross-entropy and on the margin.

        A network that jumps in its inputs, as one with ReLU does once linearised, hides from its
        own gradient what it does nearby: attacks on `through` are tried on it besides.

        Args:
            model: of which it is told.
            task: with test samples.
            through: other networks of the same task, in evaluation mode.
        """
        x, labels = task.test_inputs, task.test_labels
        assert x is not None and labels is not None
        right = 0
        with evaluating(model), torch.no_grad():
            for batch, answers in zip(x.split(_BATCH), labels.split(_BATCH), strict=True):
                stays = correct(model(batch), answers)
                for source, loss in itertools.product((model, *through), _LOSSES):
                    moved = pgd(
                        source, batch, answers, self.threat, steps=self.eval_steps, loss=loss
                    )
                    stays &= correct(model(moved), answers)
                right += int(stays.sum())
        return right / len(x)

    def _fgsm(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        with evaluating(model):
            return fgsm(model, x, labels, self.threat)
