"""What is learned and how: kernels of inputs, targets, loss and optimiser, checked once.

Solvers hand the arguments they share to `pose`. What they solve is in the `Problem` that comes
back.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import Array, array, number, whole
from ntkscale.theory.dmft.memory import memory_weights

Loss = Literal["mse", "cross-entropy"]
DIVERGED = 1e3
"""A loss this many times the one at the start is an instability, not a transient."""


class Curves(TypedDict):
    """Entries of a solution that follow from its outputs."""

    loss: Float[Tensor, "T"]
    mse: Float[Tensor, "T"]
    test_mse: Float[Tensor, "T"] | None
    outputs: Float[Tensor, "T All *C"]


@dataclass(frozen=True)
class Problem:
    """Training of an infinitely wide network. Tensors are float64, on one device.

    Attributes:
        kernel: K^x = x x^T / D of all inputs, the P for training first, then those for testing.
        targets: (P, C), with C = 1 also for targets given as (P,).
        test_targets: (P_test, C), or None.
        weights: w(t, s), what of the gradient at s is in the parameters at t; see `memory`.
        times: T = steps + 1 times, sum of learning rates / (1 - momentum).
        depth: L, the number of hidden layers.
        gamma0: feature learning, 0 is lazy.
        loss: ``"mse"``, 1/(2P) sum |y - f|^2, or ``"cross-entropy"``, the mean in nats of rows of
            probabilities y against softmax(f).
        learning_rate, momentum, flow: of the optimiser, as in `weights`.
        one_output: targets were given as (P,), so results go without the axis C.
    """

    kernel: Float[Tensor, "All All"]
    targets: Float[Tensor, "P C"]
    test_targets: Float[Tensor, "Test C"] | None
    weights: Float[Tensor, "T T"]
    times: Float[Tensor, "T"]
    depth: int
    gamma0: float
    loss: Loss
    learning_rate: float
    momentum: float
    flow: bool
    one_output: bool

    @property
    def num_train(self) -> int:
        """P, the number of training points."""
        return len(self.targets)

    @property
    def num_times(self) -> int:
        """T."""
        return len(self.times)

    @property
    def num_outputs(self) -> int:
        """C."""
        return self.targets.shape[1]

    def delta(self, outputs: Float[Tensor, "*t P C"]) -> Float[Tensor, "*t P C"]:
        """Delta = -P dL/df at the training points, y - f for the mse."""
        if self.loss == "mse":
            return self.targets - outputs
        return self.targets - torch.softmax(outputs, dim=-1)

    def losses(self, outputs: Float[Tensor, "*t P C"]) -> Float[Tensor, "*t"]:
        """What is optimised, at the training points."""
        if self.loss == "mse":
            return self.mse(outputs) / 2
        logs = torch.log_softmax(outputs, dim=-1)
        return -(self.targets * logs).sum(-1).mean(-1)

    def mse(self, outputs: Float[Tensor, "*t P C"]) -> Float[Tensor, "*t"]:
        """Mean over training points of |y - f|^2."""
        return (self.targets - outputs).square().sum(-1).mean(-1)

    def test_mse(self, outputs: Float[Tensor, "*t Test C"]) -> Float[Tensor, "*t"] | None:
        """Mean over test points of |y - f|^2; None without their targets."""
        if self.test_targets is None:
            return None
        return (self.test_targets - outputs).square().sum(-1).mean(-1)

    def has_diverged(self, outputs: Float[Tensor, "P C"]) -> bool:
        """Whether the loss is not finite or far above that of outputs 0, where training starts."""
        first = self.losses(torch.zeros_like(outputs))
        return not bool(self.losses(outputs) <= DIVERGED * first)

    def diverged(self, step: int) -> str:
        """What to say when the loss has diverged at a step."""
        where = f"the loss diverged at time {float(self.times[step]):.4g} (step {step})"
        if self.flow:
            return (
                f"{where}: the rule for flow is stable while learning_rate times the largest "
                "eigenvalue of the tangent kernel, over P, is below 0.5; take more and smaller "
                "steps. What is returned ends before."
            )
        return (
            f"{where}, as a network's does: take a smaller learning_rate. What is returned ends "
            "before."
        )

    def check_memory(self, needed: int, memory: float) -> None:
        """Refuse what would not fit.

        Args:
            needed: bytes of kernels and what goes with them.
            memory: bytes that they may take.

        Raises:
            ValueError: more is needed.
        """
        if not needed <= number(memory):
            raise ValueError(
                f"{self.num_times} times, {len(self.kernel)} points and {self.num_outputs} outputs "
                f"need {needed / 2**30:.3g} GiB of kernels, memory is {number(memory) / 2**30:.3g} "
                "GiB: take fewer steps or points, or allow more memory."
            )

    def curves(self, outputs: Float[Tensor, "T All C"]) -> Curves:
        """`loss`, `mse`, `test_mse` and `outputs` of a solution, from outputs at all points.

        In flow the first step has only the gradient at 0 to go by, an error of order eta^2 that
        later times do not inherit. So its outputs are interpolated from times 0, 2, 3 and 4.
        """
        if self.flow and len(outputs) > 4:
            outputs = outputs.clone()
            outputs[1] = outputs[0] / 4 + 3 * outputs[2] / 2 - outputs[3] + outputs[4] / 4
        train, test = outputs[:, : self.num_train], outputs[:, self.num_train :]
        return {
            "loss": self.losses(train),
            "mse": self.mse(train),
            "test_mse": self.test_mse(test),
            "outputs": outputs[..., 0] if self.one_output else outputs,
        }


def pose(
    x: Array | None,
    y: Array,
    *,
    depth: int,
    gamma0: float,
    learning_rate: float,
    steps: int,
    x_test: Array | None = None,
    y_test: Array | None = None,
    kernel: Array | None = None,
    momentum: float = 0.0,
    loss: Loss = "mse",
    flow: bool = False,
) -> Problem:
    """Check the arguments that all solvers share, and put them into one form.

    Args:
        x: (P, D) training inputs; None when `kernel` is given.
        y: (P,) or (P, C) targets; with cross-entropy (P, C) probabilities, C > 1.
        depth: L, the number of hidden layers.
        gamma0: feature learning; 0 is lazy, 1 rich.
        learning_rate: eta. The network's parameters move by gamma0^2 N eta times the gradient.
        steps: of the optimiser; the solution has steps + 1 times, the first at initialisation.
        x_test, y_test: (P_test, D) further inputs, and their targets if known.
        kernel: K^x = x x^T / D over training and test points in place of inputs, (P, P) or
            (P + P_test, P + P_test). Points beyond len(y) are for testing.
        momentum: mu of the heavy ball.
        loss: ``"mse"`` or ``"cross-entropy"``.
        flow: gradient flow, read every `learning_rate`, in place of steps.

    Raises:
        ValueError: shapes that do not fit; numbers that are not finite or out of range; a kernel
            that is not symmetric and positive semi-definite; momentum in a flow.
    """
    depth, steps = whole(depth, "depth"), whole(steps, "steps")
    if not 0 <= number(gamma0) < math.inf:
        raise ValueError(f"gamma0 must be zero (lazy) or positive and finite, got {gamma0!r}.")
    if loss not in ("mse", "cross-entropy"):
        raise ValueError(f"loss must be 'mse' or 'cross-entropy', got {loss!r}.")
    weights = memory_weights(steps, learning_rate, momentum=momentum, flow=flow)
    targets = array(y, "y").detach()
    if targets.ndim not in (1, 2) or not targets.numel():
        raise ValueError(f"y must be (P,) or (P, C), got shape {tuple(targets.shape)}.")
    one_output = targets.ndim == 1
    targets = targets.reshape(len(targets), -1)
    inputs = _inputs_kernel(x, x_test, kernel, len(targets))
    targets = targets.to(inputs.device)
    tested = len(inputs) - len(targets)
    held = None
    if y_test is not None:
        held = array(y_test, "y_test", inputs.device).detach()
        if held.shape[:1] != (tested,) or held.numel() != tested * targets.shape[1] or not tested:
            raise ValueError(
                f"y_test has shape {tuple(held.shape)}, there are {tested} test points of "
                f"{targets.shape[1]} outputs; give one row per test point."
            )
        held = held.reshape(tested, -1)
    if loss == "cross-entropy":
        _check_probabilities(targets, "y")
        if held is not None:
            _check_probabilities(held, "y_test")
    learning_rate, momentum = float(learning_rate), float(momentum)
    times = learning_rate / (1 - momentum) * torch.arange(steps + 1, dtype=torch.float64)
    return Problem(
        kernel=inputs,
        targets=targets,
        test_targets=held,
        weights=weights.to(inputs.device),
        times=times.to(inputs.device),
        depth=depth,
        gamma0=float(gamma0),
        loss=loss,
        learning_rate=learning_rate,
        momentum=momentum,
        flow=flow,
        one_output=one_output,
    )


def _inputs_kernel(
    x: Array | None, x_test: Array | None, kernel: Array | None, num_train: int
) -> Float[Tensor, "All All"]:
    if (x is None) == (kernel is None) or (kernel is not None and x_test is not None):
        raise ValueError(
            "give either x (with x_test) or kernel, K^x over training and test points together."
        )
    if kernel is not None:
        inputs = array(kernel, "kernel").detach()
        if inputs.ndim != 2 or inputs.shape[0] != inputs.shape[1] or len(inputs) < num_train:
            raise ValueError(
                f"kernel has shape {tuple(inputs.shape)}, y has {num_train} rows; give a square "
                "one over the training points and any test points after them."
            )
        if not torch.allclose(inputs, inputs.T, rtol=1e-8, atol=1e-8 * float(inputs.abs().max())):
            raise ValueError("kernel is not symmetric; give K^x = x x^T / D.")
        inputs = (inputs + inputs.T) / 2
        _check_positive(inputs)
        return inputs
    assert x is not None
    train = array(x, "x").detach()
    if train.ndim != 2 or len(train) != num_train:
        raise ValueError(
            f"x has shape {tuple(train.shape)}, y has {num_train} rows; give x as (P, D)."
        )
    if x_test is not None:
        test = array(x_test, "x_test", train.device).detach()
        if test.ndim != 2 or test.shape[1] != train.shape[1]:
            raise ValueError(
                f"x_test has shape {tuple(test.shape)}, x {tuple(train.shape)}; give as many "
                "columns as x has."
            )
        train = torch.cat((train, test))
    return train @ train.T / train.shape[1]


def _check_positive(kernel: Float[Tensor, "All All"]) -> None:
    shift = 1e-8 * kernel.abs().max()  # below it an eigenvalue may be rounding
    _, failed = torch.linalg.cholesky_ex(kernel + shift * torch.eye(len(kernel)).to(kernel))
    if bool(failed) and bool(shift > 0):
        least = float(torch.linalg.eigvalsh(kernel)[0])
        raise ValueError(
            f"kernel has an eigenvalue {least:.3g}; it must be positive semi-definite, as "
            "x x^T / D is."
        )


def _check_probabilities(targets: Float[Tensor, "P C"], name: str) -> None:
    sums = targets.sum(1)
    if targets.shape[1] < 2 or bool((targets < 0).any()) or bool(((sums - 1).abs() > 1e-6).any()):
        raise ValueError(
            f"{name} has rows that are no probabilities of two or more classes; cross-entropy "
            "takes one-hot rows, as torch.nn.functional.one_hot makes of labels."
        )
