"""Rows of the Jacobian: the gradient of every output of every sample, sample by sample.

Two routes give the same rows. *Vectorised*: a block of samples, each with its own copy of the
parameters, is pulled back at once by `torch.func`; blocks are as large as the cache, so down to one
sample for a large network. *One by one*: plain autograd on batches of one, which works for whatever
autograd works for; at large networks it costs the same, at small ones several times as much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.inputs import Batch, count, each, rows
from ntkscale.ntk.memory import room
from ntkscale.ntk.suitability import gradient_of, pulls_back_alike

CACHE = 8 << 20
"""Bytes one vectorised step works on: about what a core's cache holds. Measured: 4 to 16 MiB cost
the same, 1 MiB half as much again."""


@dataclass(frozen=True)
class Columns:
    """Where each parameter's entries go: into which block, and from which column on."""

    names: tuple[str, ...]
    block: tuple[int, ...]
    start: tuple[int, ...]
    widths: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, chosen: dict[str, Tensor], *, apart: bool) -> "Columns":
        """Lay out the parameters side by side in one block, or `apart`, a block for each."""
        dtype = torch.float32
        block, start, widths = [], [], [0]
        for i, p in enumerate(chosen.values()):
            # Half precision is summed in single; a complex entry is two real ones.
            dtype = torch.promote_types(dtype, p.dtype.to_real())
            if apart and i:
                widths.append(0)
            block.append(len(widths) - 1)
            start.append(widths[-1])
            widths[-1] += p.numel() * (2 if p.is_complex() else 1)
        return cls(tuple(chosen), tuple(block), tuple(start), tuple(widths), dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row: the gradient of one output of one sample."""
        return sum(self.widths) * self.dtype.itemsize


@dataclass(frozen=True)
class Jacobian:
    """Rows of one model's Jacobian.

    Attributes:
        forward: the model.
        columns: where each parameter's entries go.
        sample_bytes: bytes of activations autograd keeps for one sample.
        vectorised: which of the two routes.
        step_bytes: bytes one vectorised step may work on.
    """

    forward: Forward
    columns: Columns
    sample_bytes: int
    vectorised: bool
    step_bytes: int = CACHE

    def rows(
        self, x: Batch, outputs: Sequence[int], tick: Callable[[int], None] | None = None
    ) -> list[Float[Tensor, "n C width"]]:
        """Rows of the samples `x` for some outputs, one tensor for each block of columns.

        `tick` is called with the number of rows done since the last call.
        """
        shape = (count(x), len(outputs))
        dtype, device = self.columns.dtype, self.forward.device
        into = [room((*shape, width), dtype, device) for width in self.columns.widths]
        tick = tick or (lambda _: None)
        if self.vectorised:
            self._vectorised(x, outputs, into, tick)
            if self._pull_back_alike(x, outputs, into):
                return into
            # A batching rule that is wrong for some samples alone.
            tick = lambda _: None  # noqa: E731
        self._one_by_one(x, outputs, into, tick)
        return into

    def _pull_back_alike(self, x: Batch, outputs: Sequence[int], into: list[Tensor]) -> bool:
        """Whether all rows together, with random coefficients, give autograd's gradient."""
        picked = list(outputs)
        generator = torch.Generator().manual_seed(2)
        v = torch.randn(count(x), len(picked), generator=generator, dtype=torch.float64)
        v = v.to(self.columns.dtype).to(self.forward.device)
        leaves = {name: p.detach().requires_grad_() for name, p in self.forward.chosen.items()}
        with self.forward.holding(leaves):
            y = self.forward.run(x)
            if not y.requires_grad:
                return True
            gradients = torch.autograd.grad(
                (y[:, picked] * v.to(y)).sum(), list(leaves.values()), allow_unused=True
            )
        gradient = [
            torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
            for p, g in zip(leaves.values(), gradients, strict=True)
        ]
        return pulls_back_alike(into, v, gradient, self.forward.device)

    def _write(self, into: list[Tensor], at: tuple, name_index: int, gradient: Tensor) -> None:
        """Put gradients of shape (*leading, *parameter) where `at` picks the leading axes."""
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        target = into[self.columns.block[name_index]][at]
        start = self.columns.start[name_index]
        flat = gradient.reshape(*target.shape[:-1], -1)
        target[..., start : start + flat.shape[-1]] = flat

    def _one_by_one(
        self, x: Batch, outputs: Sequence[int], into: list[Tensor], tick: Callable[[int], None]
    ) -> None:
        leaves = {name: p.detach().requires_grad_() for name, p in self.forward.chosen.items()}
        with self.forward.holding(leaves):
            for i in range(count(x)):
                y = self.forward.run(rows(x, slice(i, i + 1)))[0]
                for j, c in enumerate(outputs):
                    gradients: Sequence[Tensor | None] = (None,) * len(leaves)
                    if y.requires_grad:
                        gradients = torch.autograd.grad(
                            y[c],
                            list(leaves.values()),
                            retain_graph=j + 1 < len(outputs),
                            allow_unused=True,
                        )
                    for k, (p, gradient) in enumerate(zip(leaves.values(), gradients, strict=True)):
                        self._write(
                            into, (i, j), k, torch.zeros_like(p) if gradient is None else gradient
                        )
                tick(len(outputs))

    def _vectorised(
        self, x: Batch, outputs: Sequence[int], into: list[Tensor], tick: Callable[[int], None]
    ) -> None:
        chosen = self.forward.chosen
        fitting = max(1, self.step_bytes // (self.columns.row_bytes + self.sample_bytes))
        n = count(x)
        samples = min(fitting, n)
        together = max(1, min(fitting // samples, len(outputs)))

        def one(p: dict[str, Tensor], sample: Batch) -> Tensor:
            return self.forward(p, each(lambda t: t[None], sample))[0]

        for first in range(0, n, samples):
            part = rows(x, slice(first, first + samples))
            size = count(part)
            copies = {name: p.expand(size, *p.shape) for name, p in chosen.items()}
            y, pull_back, *_ = torch.func.vjp(
                lambda p, part=part: torch.func.vmap(one)(p, part), copies
            )
            for j in range(0, len(outputs), together):
                picked = outputs[j : j + together]
                cotangents = y.new_zeros(len(picked), *y.shape)
                for i, c in enumerate(picked):
                    cotangents[i, :, c] = 1
                if len(picked) == 1:
                    (gradients,) = pull_back(cotangents[0])
                    at: tuple = (slice(first, first + size), j)
                    for k, name in enumerate(chosen):
                        self._write(into, at, k, gradients[name])
                else:
                    (gradients,) = torch.func.vmap(pull_back)(cotangents)
                    at = (slice(first, first + size), slice(j, j + len(picked)))
                    for k, name in enumerate(chosen):
                        self._write(into, at, k, gradients[name].transpose(0, 1))
                tick(len(picked) * size)


def choose_route(
    forward: Forward, x: Batch, columns: Columns, sample_bytes: int, memory: int
) -> Jacobian:
    """The vectorised route where it gives autograd's gradient on the first two samples."""
    step = min(CACHE, memory) if forward.device.type == "cpu" else memory // 4
    fast = Jacobian(forward, columns, sample_bytes, vectorised=True, step_bytes=step)
    head = each(Tensor.detach, rows(x, slice(2)))
    # No batching rule, a branch on data, an operation torch.func gets wrong: the other route.
    try:
        y = forward(forward.chosen, head)
        v = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        v = v.to(y)
        gradient, _ = gradient_of(forward, head, v)
        if pulls_back_alike(fast.rows(head, range(v.shape[1])), v, gradient, forward.device):
            return fast
    except RuntimeError:
        pass
    return Jacobian(forward, columns, sample_bytes, vectorised=False)
