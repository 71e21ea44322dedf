"""Step size of full-batch gradient flow: a fixed fraction of the stability limit.

Gradient descent follows the flow, with an error of first order in eta, while `eta lambda_max` of
the kernel stays well below 2. A rich network's kernel grows by orders of magnitude, so lambda_max
is measured all along: at every one of the first steps, then at intervals that grow with the run.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntkscale.training.batches import generator
from ntkscale.training.distributed import sum_over_ranks
from ntkscale.training.precision import wide

_LONGEST_INTERVAL = 100
_STEPS_PER_INTERVAL = 50
_GROWTH_TO_HURRY = 1.1
_FIRST_TOLERANCE, _FIRST_ITERATIONS = 1e-3, 100
_TOLERANCE, _ITERATIONS = 1e-2, 10
_FRESH = 0.1


class FlowStep:
    """Chooses eta = step_fraction / (h lambda_max(gamma^2 J J^T / P) + weight_decay).

    h is the largest curvature of the loss in the outputs (mean squared error: 1, cross-entropy:
    1/2), so that the denominator bounds the curvature of the training loss in the flow's metric.
    For an ensemble lambda_max is the largest among the members still running: one eta, one flow
    time.

    lambda_max comes from power iteration on J^T J in parameter space, started from the vector
    reached last time with a tenth of a fresh random direction, without which a direction that
    overtakes the leading one could stay unseen. A refresh costs as much as four or five training
    steps, with two or three iterations. Between refreshes
    the kernel is assumed to grow once more by what it grew since the last; if that was above 10 %,
    the interval is halved. The interval is 1 in the first 50 steps, then step/50, at most 100.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        inputs: Float[Tensor, "p ..."],
        gamma: Float[Tensor, ""] | Float[Tensor, "E"],
        *,
        samples: int,
        fraction: float,
        curvature: float = 1.0,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Remember what the kernel is made of; nothing is computed yet.

        Args:
            module: the network without wrappers.
            parameters: those that are trained, by name.
            inputs: our share of the training inputs (all of them in a single process).
            gamma: 0-d, or (E,) for an ensemble.
            samples: P, over all processes.
            fraction: wanted eta times curvature.
            curvature: h.
            weight_decay: its rate adds to the curvature.
            seed: of the random directions.
        """
        self._module, self._parameters, self._inputs = module, dict(parameters), inputs
        self._scale = wide(gamma.detach()).square() / samples
        self._fraction, self._curvature, self._decay = fraction, curvature, weight_decay
        self._seed = seed
        self._vector: dict[str, Tensor] = {}
        self._next, self._interval = 0, 1
        self.lambda_max = 0.0
        self.finite = torch.ones(self._scale.shape, dtype=torch.bool)
        self._eta = 0.0

    def due(self, step: int) -> bool:
        """Whether `eta` would measure lambda_max at this step."""
        return step >= self._next

    def eta(self, step: int, running: Bool[Tensor, "E"] | None = None) -> float:
        """Step size for step number `step`; measures lambda_max anew when that is due.

        Args:
            step: number of steps taken.
            running: (E,) which members of an ensemble count; None: all.

        Returns:
            eta, in flow time; nan if a kernel left the finite numbers (`finite` says whose).

        Raises:
            ValueError: the kernel is zero, so that the flow has no time scale.
        """
        if self.due(step):
            self._refresh(step, running)
        return self._eta

    def state(self) -> tuple[dict[str, Tensor], dict[str, float | int]]:
        """Vector of the power iteration (live tensors), and where its schedule stands."""
        numbers = {
            "lambda_max": self.lambda_max,
            "eta": self._eta,
            "next": self._next,
            "interval": self._interval,
        }
        return dict(self._vector), numbers

    def restore(self, vector: Mapping[str, Tensor], numbers: Mapping[str, float | int]) -> None:
        """Take over copies of what `state` returned."""
        self._vector = {
            name: value.detach().to(self._parameters[name].device, copy=True)
            for name, value in vector.items()
        }
        self.lambda_max, self._eta = float(numbers["lambda_max"]), float(numbers["eta"])
        self._next, self._interval = int(numbers["next"]), int(numbers["interval"])

    def _refresh(self, step: int, running: Tensor | None) -> None:
        before = self.lambda_max
        self.lambda_max = self._largest(step, running)
        if not math.isfinite(self.lambda_max):
            self.lambda_max, self._eta, self._next = before, math.nan, step
            return
        growth = max(self.lambda_max / before, 1.0) if before > 0 else 1.0
        planned = min(max(step // _STEPS_PER_INTERVAL, 1), _LONGEST_INTERVAL)
        hurried = self._interval // 2 if growth > _GROWTH_TO_HURRY else 2 * self._interval
        self._interval = max(min(planned, hurried), 1)
        self._next = step + self._interval
        rate = self._curvature * self.lambda_max * growth + self._decay
        if rate <= 0:
            raise ValueError(
                "the kernel is zero on the training set, so gradient flow has no time scale: "
                "check that the network depends on its inputs and parameters."
            )
        self._eta = self._fraction / rate

    def _largest(self, step: int, running: Tensor | None) -> float:
        """lambda_max over the running members; not finite if that of one of them is not."""
        first = not self._vector
        tolerance, iterations = (
            (_FIRST_TOLERANCE, _FIRST_ITERATIONS) if first else (_TOLERANCE, _ITERATIONS)
        )
        random = generator("power iteration", self._seed, step)
        fresh = {
            name: torch.randn(value.shape, generator=random, dtype=torch.float64).to(value)
            for name, value in self._parameters.items()
        }
        fresh, _ = self._normalised(fresh)
        vector = fresh
        if not first:
            vector = {name: v + _FRESH * fresh[name] for name, v in self._vector.items()}
            vector, _ = self._normalised(vector)
        product = self._gram_product()
        largest = 0.0  # two iterations at least: one agrees with the last refresh too easily
        for _ in range(iterations):
            before = largest
            vector, norms = self._normalised(product(vector))
            norms = norms * self._scale
            self.finite = norms.isfinite().cpu()
            largest = float((norms if running is None else norms[running]).max())
            if not math.isfinite(largest) or abs(largest - before) <= tolerance * largest:
                break
        # A member that left the finite numbers must not spoil what is carried on.
        self._vector = {name: torch.nan_to_num(v, 0.0, 0.0, 0.0) for name, v in vector.items()}
        return largest

    def _gram_product(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """v -> J^T J v over the samples of all processes, from one graph of the network.

        J^T u is linear in u, so that its derivative in u applied to v is J v: no forward-mode rule
        is needed, and the forward pass is shared by all iterations.
        """
        names, values = list(self._parameters), list(self._parameters.values())
        with torch.enable_grad():
            outputs = self._module(self._inputs)
            u = torch.zeros_like(outputs, requires_grad=True)
            pulled = torch.autograd.grad(outputs, values, u, create_graph=True, allow_unused=True)
        used = [i for i, gradient in enumerate(pulled) if gradient is not None]

        def product(vector: dict[str, Tensor]) -> dict[str, Tensor]:
            (tangent,) = torch.autograd.grad(
                [pulled[i] for i in used], u, [vector[names[i]] for i in used], retain_graph=True
            )
            back = torch.autograd.grad(
                outputs, [values[i] for i in used], tangent, retain_graph=True
            )
            result = {name: torch.zeros_like(v) for name, v in vector.items()}
            result |= {names[i]: gradient for i, gradient in zip(used, back, strict=True)}
            sum_over_ranks(result.values())
            return result

        return product

    def _normalised(self, vector: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The vector over its norm, member by member, and the norms in float64."""
        members = self._scale.ndim
        squares = [wide(v).square().flatten(members).sum(-1) for v in vector.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        safe = torch.where(norms > 0, norms, 1.0)
        return {
            name: v / safe.to(v.dtype).view(*safe.shape, *[1] * (v.ndim - members))
            for name, v in vector.items()
        }, norms
