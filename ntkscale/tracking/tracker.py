"""The kernel of a network on a fixed probe set, measured while it trains."""

import json
import math
import time as clock
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.tracking.evaluation import evaluating
from ntkscale.tracking.spectrum import leading_eigenvalues, leading_eigenvectors

Row = dict[str, Any]

PER_DECADE = 8
"""Snapshots a decade of steps where no schedule is given."""


MEMORY = 1 << 30
"""Default budget of the kernel engine. A number, not a share of what is free: how the work is cut
shows in the last bits, and a resumed run must end with those of the uninterrupted one."""


class KernelTracker:
    """Measures K = gamma^2 sum_c df_c/dtheta . df_c/dtheta' / C on a probe set of n points.

    Three lines in any loop::

        tracker = KernelTracker(model, probe, targets)
        for step, batch in enumerate(batches):
            tracker.step(step, time)

    The first measurement sets K_0, to which the later ones are compared. Everything after the
    engine is float64 on the processor. The model is evaluated in eval mode and left as it was:
    training flags, gradients, buffers and random states are untouched.

    Attributes:
        kernel: K at the last measurement, (n, n) float64; None before the first.
        initial_kernel: K_0.
        eigenvectors: (n, directions) leading unit eigenvectors of K_0, largest eigenvalue first.
        layers: names of the parameters, in the order of the lists by layer.
        history: the rows measured so far.
        seconds: wall time spent measuring, in this process.
    """

    def __init__(
        self,
        model: nn.Module,
        probe_inputs: Float[Tensor, "n ..."],
        probe_targets: Float[Tensor, "n C"] | None = None,
        *,
        gamma: float | Tensor | None = None,
        by_layer: bool = False,
        eigenvalues: int = 32,
        directions: int = 64,
        output: str | int | Callable[[Any], Tensor] | None = None,
        measure_at: Collection[int] | None = None,
        memory: int = MEMORY,
    ) -> None:
        """Look at nothing yet.

        Args:
            model: any module, also wrapped by `torch.compile` or data parallelism.
            probe_inputs: the n points the kernel is measured on.
            probe_targets: their targets, for the alignment and the spectrum of the task.
            gamma: factor before the kernel; None takes `model.gamma` where there is one, else 1.
            by_layer: also measure the kernel of each parameter; keeps K_0 of each.
            eigenvalues: leading eigenvalues of K_t / n to record, at most n.
            directions: leading eigenvectors of K_0 whose growth is recorded, at most n.
            output: entry (key or index) of the mapping or tuple the model returns, or a callable
                that picks the output out of it; None where the model returns a tensor.
            measure_at: steps at which `due` is true; None is step 0 and 8 steps a decade. See
                `default_steps` for a schedule of known cost.
            memory: bytes the kernel engine may use beside the kernel.

        Raises:
            ValueError: inputs and targets of unequal length, or a negative count.
        """
        n = len(probe_inputs)
        if probe_targets is not None:
            if len(probe_targets) != n:
                raise ValueError(
                    f"the probe has {n} inputs and {len(probe_targets)} targets; give one target "
                    "row for each input."
                )
            probe_targets = probe_targets.detach().to("cpu", torch.float64).reshape(n, -1)
        if eigenvalues < 0 or directions < 0:
            raise ValueError(
                f"eigenvalues={eigenvalues}, directions={directions}: counts cannot be negative."
            )
        self._model, self._module = model, ntk.unwrap(model)
        self._inputs, self._targets = probe_inputs, probe_targets
        self._gamma, self._by_layer, self._memory = gamma, by_layer, memory
        self._eigenvalues, self._directions = min(eigenvalues, n), min(directions, n)
        self._select = output if callable(output) or output is None else _entry(output)
        self._measure_at = None if measure_at is None else frozenset(measure_at)
        self._time: float | None = None
        self._initial_layers: Tensor | None = None
        self.kernel: Float[Tensor, "n n"] | None = None
        self.initial_kernel: Float[Tensor, "n n"] | None = None
        self.eigenvectors: Float[Tensor, "n directions"] | None = None
        self.layers: list[str] = []
        self.history: list[Row] = []
        self.seconds = 0.0

    def due(self, step: int) -> bool:
        """Whether the schedule has a measurement at this step."""
        if self._measure_at is not None:
            return step in self._measure_at
        return step <= 1 or _decade_mark(step) != _decade_mark(step - 1)

    def step(
        self, step: int, time: float | None = None, params: Mapping[str, Tensor] | None = None
    ) -> Row | None:
        """Measure if a measurement is due at this step; the row, or None."""
        return self.measure(time=time, step=step, params=params) if self.due(step) else None

    def measure(
        self,
        *,
        time: float | None = None,
        step: int | None = None,
        params: Mapping[str, Tensor] | None = None,
    ) -> Row:
        """Measure now. The first call sets K_0.

        Args:
            time: flow time; without it the row has no time and no velocity.
            step: optimiser steps taken.
            params: values by name for parameters and buffers in place of the model's own, such as
                those of one member of an ensemble.

        Returns:
            A row under the names of `ntkscale.schema`, numbers and lists of numbers. Quantities
            that are not defined are left out: the velocity at first, the alignment without targets,
            lists by layer unless asked for. After a divergence the numbers are nan.

        Raises:
            ValueError: the model has no kernel (see `ntk.gram`), or K_0 is not finite.
        """
        started = clock.perf_counter()
        layers = self._kernels(params)
        kernel = torch.stack(list(layers.values())).sum(0) if self._by_layer else layers[""]
        if self.initial_kernel is None:
            if not bool(torch.isfinite(kernel).all()):
                raise ValueError(
                    "the initial kernel holds nan or infinity; look for bad inputs or parameters."
                )
            self.initial_kernel = kernel
            self.eigenvectors = leading_eigenvectors(kernel, self._directions)
            if self._by_layer:
                self.layers = list(layers)
                self._initial_layers = torch.stack(list(layers.values()))
        row: Row = {}
        if step is not None:
            row["step"] = int(step)
        if time is not None:
            row["time"] = float(time)
        row |= self._row(kernel, time, layers)
        self.kernel, self._time = kernel, None if time is None else float(time)
        self.history.append(dict(row))
        self.seconds += clock.perf_counter() - started
        return row

    def share(self, total_seconds: float) -> float:
        """Share of a total wall time that measuring took: 0.05 is 5 %."""
        return self.seconds / total_seconds if total_seconds > 0 else math.nan

    def initial_spectrum(
        self, targets: Float[Tensor, "n C"] | None = None
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        """Eigenvalues of K_0 / n, largest first, and the power of the targets on its eigenvectors.

        power_i = sum_c (u_i . y_c)^2 / n: what `scaling.source_capacity` takes. Rounding below
        zero is set to zero.

        Args:
            targets: what the network has to learn from its initial state, y - f_0 for a network
                that is not centred; None takes the probe's targets.

        Raises:
            RuntimeError: nothing was measured yet.
            ValueError: there are no targets.
        """
        if self.initial_kernel is None:
            raise RuntimeError("nothing was measured yet; call measure() at initialisation first.")
        if targets is None:
            targets = self._targets
        if targets is None:
            raise ValueError("the tracker has no targets; pass targets=, or probe_targets to it.")
        values, vectors = ntk.eigensystem(self.initial_kernel)
        y = targets.detach().to("cpu", torch.float64)
        return values.clamp(min=0) / len(values), ntk.target_power(vectors, y)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a later process needs to go on with the same digits; empty before the first.

        Wall time is not part of it.
        """
        if self.initial_kernel is None or self.kernel is None or self.eigenvectors is None:
            return {}
        time = math.nan if self._time is None else self._time
        text = json.dumps({"layers": self.layers, "history": self.history}).encode()
        state = {
            "initial_kernel": self.initial_kernel.clone(),
            "kernel": self.kernel.clone(),
            "eigenvectors": self.eigenvectors.clone(),
            "time": torch.tensor(time, dtype=torch.float64),
            "text": torch.frombuffer(bytearray(text), dtype=torch.uint8),
        }
        if self._initial_layers is not None:
            state["initial_layers"] = self._initial_layers.clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; rows measured from here on are bitwise those of the first process.

        Raises:
            ValueError: the state is that of another probe or of another choice of layers.
        """
        if not state:
            self.kernel = self.initial_kernel = self.eigenvectors = self._initial_layers = None
            self.layers, self.history, self._time = [], [], None
            return
        n = len(self._inputs)
        shape = tuple(state["initial_kernel"].shape)
        if shape != (n, n) or state["eigenvectors"].shape[1] != self._directions:
            raise ValueError(
                f"the state has a kernel of shape {shape} and {state['eigenvectors'].shape[1]} "
                f"directions, the tracker {n} points and {self._directions}; build it as before."
            )
        if ("initial_layers" in state) != self._by_layer:
            raise ValueError("the state was saved with another by_layer; build it as before.")
        self.initial_kernel = state["initial_kernel"].to("cpu").clone()
        self.kernel = state["kernel"].to("cpu").clone()
        self.eigenvectors = state["eigenvectors"].to("cpu").clone()
        layers = state.get("initial_layers")
        self._initial_layers = None if layers is None else layers.to("cpu").clone()
        time = float(state["time"])
        self._time = None if math.isnan(time) else time
        text = json.loads(bytes(state["text"].to("cpu").tolist()))
        self.layers, self.history = text["layers"], text["history"]

    def _kernels(self, params: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """gamma^2 J J^T / C in float64 on the processor, by parameter or under the name ""."""
        model = self._module if params is None else (self._module, params)
        select = self._select
        count = 0

        def pick(returned: Any) -> Tensor:
            nonlocal count
            y = returned if select is None else select(returned)
            if isinstance(y, Tensor) and y.ndim:
                count = math.prod(y.shape[1:])
            return y

        with evaluating(self._module):
            if self._by_layer:
                layers = ntk.gram_by_parameter(
                    model, self._inputs, output=pick, memory=self._memory
                )
            else:
                layers = {"": ntk.gram(model, self._inputs, output=pick, memory=self._memory)}
        scale = self._factor(params) ** 2 / count
        return {name: scale * k.to("cpu", torch.float64) for name, k in layers.items()}

    def _factor(self, params: Mapping[str, Tensor] | None) -> float:
        if self._gamma is not None:
            return float(self._gamma)
        own = getattr(self._module, "gamma", None)
        if not isinstance(own, (Tensor, float, int)):
            return 1.0
        if params is None:
            return float(own)
        reader = _Gamma(self._module)
        inner = {f"module.{name}": value for name, value in params.items()}
        return float(torch.func.functional_call(reader, inner, ()))

    def _row(
        self, kernel: Tensor, time: float | None, layers: Mapping[str, Tensor]
    ) -> dict[str, float | list[float]]:
        assert self.initial_kernel is not None and self.eigenvectors is not None
        n = len(kernel)
        row: dict[str, float | list[float]] = {
            "kernel_distance": float(ntk.kernel_distance(self.initial_kernel, kernel))
        }
        if self.kernel is not None and time is not None and self._time is not None:
            passed = float(time) - self._time
            if passed > 0:
                moved = float(ntk.kernel_distance(self.kernel, kernel))
                row["kernel_velocity"] = moved / passed
        row["kernel_change"] = float(ntk.kernel_change(self.initial_kernel, kernel))
        if self._targets is not None:
            row["kernel_alignment"] = float(ntk.alignment(kernel, self._targets))
        row["kernel_trace"] = float(ntk.trace(kernel)) / n
        row["effective_rank"] = float(ntk.effective_rank(kernel))
        row["kernel_eigenvalues"] = (leading_eigenvalues(kernel, self._eigenvalues) / n).tolist()
        growth = (self.eigenvectors * (kernel @ self.eigenvectors)).sum(0) / n
        row["kernel_growth"] = growth.tolist()
        if self._initial_layers is not None:
            pairs = list(zip(self._initial_layers, layers.values(), strict=True))
            row["kernel_trace_by_layer"] = [float(ntk.trace(k)) / n for _, k in pairs]
            row["kernel_distance_by_layer"] = [float(ntk.kernel_distance(k0, k)) for k0, k in pairs]
        return row


class _Gamma(nn.Module):
    """Reads a module's `gamma` under the values that a functional call puts into it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self) -> Any:
        return self.module.gamma


def _entry(key: str | int) -> Callable[[Any], Tensor]:
    def pick(returned: Any) -> Tensor:
        if isinstance(returned, Tensor):
            raise ValueError(
                f"output={key!r} names an entry, but the model returns a tensor; leave output out."
            )
        return returned[key]

    return pick


def _decade_mark(step: int) -> int:
    # The small shift keeps exact powers of ten on their own mark.
    return math.floor(PER_DECADE * math.log10(step) + 1e-9)
