"""What a network is asked to learn."""

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Loss = Literal["mse", "cross-entropy"]


@dataclass(frozen=True)
class Task:
    """Training and test samples with the loss that is optimised on them.

    Attributes:
        name: for tables and figures.
        inputs: P samples.
        targets: regression targets; for classes the centred one-hot, or one column of -1 and +1 for
            two classes under mse (see `targets`).
        loss: ``"mse"`` optimises 1/(2P) sum |y - f|^2, ``"cross-entropy"`` the nats of `labels`.
        labels: class indices, 0 to C - 1 (0 and 1 beside one column of -1 and +1).
        test_inputs, test_targets, test_labels: the same for held-out samples, or None.
        tail: power of the target outside what the P points resolve: mean over the points of
            |y - f|^2, plus `tail`, is the population mse of a network that has learned none of it.
    """

    name: str
    inputs: Float[Tensor, "P ..."]
    targets: Float[Tensor, "P C"]
    loss: Loss = "mse"
    labels: Int[Tensor, " P"] | None = None
    test_inputs: Float[Tensor, "Q ..."] | None = None
    test_targets: Float[Tensor, "Q C"] | None = None
    test_labels: Int[Tensor, " Q"] | None = None
    tail: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in ("mse", "cross-entropy"):
            raise ValueError(f"unknown loss {self.loss!r}: choose mse or cross-entropy.")
        if self.loss == "cross-entropy" and self.labels is None:
            raise ValueError("cross-entropy needs class labels: give labels, or choose loss='mse'.")
        if (self.test_inputs is None) != (self.test_targets is None):
            raise ValueError("test_inputs and test_targets belong together: give both or neither.")
        for prefix in ("", "test_"):
            inputs, targets = getattr(self, f"{prefix}inputs"), getattr(self, f"{prefix}targets")
            labels = getattr(self, f"{prefix}labels")
            if inputs is None:
                continue
            lengths = {len(part) for part in (inputs, targets, labels) if part is not None}
            if len(lengths) > 1 or targets.ndim != 2:
                raise ValueError(
                    f"{prefix}inputs {tuple(inputs.shape)} and {prefix}targets "
                    f"{tuple(targets.shape)} do not fit: give P samples and (P, C) targets."
                )

    @property
    def outputs(self) -> int:
        """C, the number of outputs that a network for this task has."""
        return self.targets.shape[1]

    def first(self, count: int) -> "Task":
        """The task with its first `count` training samples alone; the test set stays."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(
            self, inputs=self.inputs[:count], targets=self.targets[:count], labels=labels
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Task":
        """The task on another device, or with inputs and targets in another dtype."""
        moved: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                kind = dtype if value.is_floating_point() else None
                moved[field.name] = value.to(device=device, dtype=kind)
        return replace(self, **moved)
