"""Averages over independent batches of neurons, and how far to trust them."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft.problem import Problem
from ntkscale.theory.dmft.solution import Cost, Fields, Solution

BATCHES = 8
"""Independent runs, whose scatter is the standard error. Few, as each should be large: the error of
a batch's mean field is of order 1/S."""

SMALLEST_GAMMA0 = 1e-3
"""Smaller ones are solved at this one. Kernels differ by its square, 1e-6 of themselves."""

_ROWS = 512
"""Rows of a kernel that are computed at once."""

Product = tuple[Float[Tensor, "m r"], Float[Tensor, "r n"]]


class Averages:
    """Sums of outputs, kernels and responses over batches.

    Args:
        problem: what was solved.

    Attributes:
        reached: times that all batches have solved.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.reached = problem.num_times
        self._outputs: list[Tensor] = []
        self._kernels: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._responses: list[Tensor] = []
        self._h: list[tuple[Tensor, ...]] = []
        self._z: list[tuple[Tensor, ...]] = []

    def add(
        self,
        outputs: Float[Tensor, "T All C"],
        phi: list[Float[Tensor, "T_All r"]],
        g: list[Float[Tensor, "T_All_C r"]],
        *,
        responses: list[Product] | None = None,
        fields: tuple[list[Tensor], list[Tensor]] | None = None,
    ) -> None:
        """One batch; it may have solved fewer times than asked for.

        Args:
            outputs: f at the times solved.
            phi, g: a factor F of each kernel F F^T, first Phi^1 to Phi^L, then G^1 to G^L.
            responses: A^1 to A^(L-1) and B^1 to B^(L-1), as products.
            fields: h and z of neurons that are kept, as in `Fields`.
        """
        before, self.reached = self.reached, min(self.reached, len(outputs))
        self._outputs.append(outputs)
        self._kernels = [self._cut(kernel, before) for kernel in self._kernels]
        self._squares = [self._cut(squares, before) for squares in self._squares]
        self._responses = [self._cut(response, before) for response in self._responses]
        factors = [self._head(factor, len(outputs)) for factor in (*phi, *g)]
        if not self._squares:
            self._squares = [factor.new_zeros(self.reached, self.reached) for factor in factors]
            self._kernels = [factor.new_zeros(len(factor), len(factor)) for factor in factors]
            self._responses = [
                left.new_zeros(self._size(left, len(outputs)), self._size(right.T, len(outputs)))
                for left, right in responses or []
            ]
        for factor, kernel, squares in zip(factors, self._kernels, self._squares, strict=True):
            self._accumulate(factor, kernel, squares)
        for total, (left, right) in zip(self._responses, responses or [], strict=True):
            total.addmm_(self._head(left, len(outputs)), self._head(right.T, len(outputs)).T)
        if fields is not None:
            self._h.append(tuple(fields[0]))
            self._z.append(tuple(fields[1]))

    def state(self) -> dict[str, Tensor]:
        """The sums, as `restore` takes them."""
        lists = {
            "outputs": self._outputs,
            "kernels": self._kernels,
            "squares": self._squares,
            "responses": self._responses,
        }
        for name, batches in (("h", self._h), ("z", self._z)):
            lists |= {f"{name}{batch}": list(layers) for batch, layers in enumerate(batches)}
        state = {f"{name}.{i}": held for name, all_ in lists.items() for i, held in enumerate(all_)}
        return state | {"reached": torch.tensor(self.reached)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""

        def family(name: str) -> list[Tensor]:
            count = sum(key.rpartition(".")[0] == name for key in state)
            return [state[f"{name}.{i}"] for i in range(count)]

        self.reached = int(state["reached"])
        self._outputs, self._kernels = family("outputs"), family("kernels")
        self._squares, self._responses = family("squares"), family("responses")
        kept = range(len(self._outputs)) if "h0.0" in state else ()
        self._h = [tuple(family(f"h{batch}")) for batch in kept]
        self._z = [tuple(family(f"z{batch}")) for batch in kept]

    def solution(
        self, *, samples: int, seconds: float, nbytes: int, bias: float, why: str
    ) -> Solution:
        """The averages, with their standard errors.

        Args:
            samples: neurons of all batches.
            seconds, nbytes: what it took.
            bias: further relative error of kernels, added in quadrature; 1.5 times as much of the
                log of how far the mse has fallen.
            why: what stopped the march, and what to change; "" if nothing did.
        """
        problem, t, count = self.problem, self.reached, len(self._outputs)
        points, outputs, train = len(problem.kernel), problem.num_outputs, problem.num_train
        runs = torch.stack([run[:t] for run in self._outputs])
        curves = problem.curves(runs.mean(0))
        depth = len(self._kernels) // 2
        nbytes += self.nbytes() + max(kernel.nbytes for kernel in self._kernels)
        means: list[Tensor] = []
        while self._kernels:
            kernel = self._kernels.pop(0)
            # Rounding differs between the two halves.
            means.append((kernel + kernel.T).div_(2 * count))
        phi = [mean.view(t, points, t, points) for mean in means[:depth]]
        g = [mean.view(t, points, outputs, t, points, outputs) for mean in means[depth:]]
        half = len(self._responses) // 2
        forward = [r.view(t, train, t, train, outputs) / count for r in self._responses[:half]]
        backward = [r.view(t, train, outputs, t, train) / count for r in self._responses[half:]]
        ntk = self._tangent_kernel(phi, g)
        fields = None
        if self._h:
            h = [torch.cat([run[layer][:t] for run in self._h], -1) for layer in range(depth)]
            z = [torch.cat([run[layer][:t] for run in self._z], -1) for layer in range(depth)]
            if problem.one_output:
                z = [layer[:, :, 0] for layer in z]
            fields = Fields(tuple(h), tuple(z))
        if problem.one_output:
            g = [kernel[:, :, 0, :, :, 0] for kernel in g]
            forward = [response[..., 0] for response in forward]
            backward = [response[:, :, 0] for response in backward]
            ntk = ntk[..., 0, 0]
        relative = torch.tensor(
            [
                self._relative_error(float(squares.sum()), float(mean.norm()) ** 2, count)
                for squares, mean in zip(self._squares, means, strict=True)
            ]
        ).to(runs)
        relative = (relative.square() + bias**2).sqrt()
        at = torch.stack(
            [
                self._at_times(squares, mean, count)
                for squares, mean in zip(self._squares, means, strict=True)
            ]
        )
        at = (at.square() + bias**2).sqrt()
        mse = curves["mse"]
        assert mse is not None
        by_bias = 1.5 * bias * mse * (mse / mse[0]).log().abs().nan_to_num(0, 0, 0)
        error = (self._jackknife(runs).square() + by_bias.square()).sqrt()
        return Solution(
            times=problem.times[:t],
            num_train=train,
            phi=tuple(phi),
            g=tuple(g),
            ntk=ntk,
            forward_responses=tuple(forward),
            backward_responses=tuple(backward),
            gamma0=problem.gamma0,
            fields=fields,
            standard_error={
                "mse": error,
                "phi": relative[:depth],
                "g": relative[depth:],
                "phi_at": at[:depth],
                "g_at": at[depth:],
            },
            converged=not why,
            message=why,
            cost=Cost(seconds=seconds, samples=samples, peak_bytes=nbytes),
            **curves,  # type: ignore[arg-type]
        )

    def nbytes(self) -> int:
        """Bytes of the sums."""
        return sum(held.nbytes for held in (*self._kernels, *self._responses))

    def _accumulate(
        self, factor: Float[Tensor, "T_rows r"], kernel: Tensor, squares: Float[Tensor, "T T"]
    ) -> None:
        """Add F F^T to the kernel, and its squares by pairs of times: so both can be cut later."""
        times, rows = self.reached, len(factor) // self.reached
        step = max(1, _ROWS // rows)
        for start in range(0, times, step):
            stop = min(start + step, times)
            part = factor[start * rows : stop * rows] @ factor.T
            kernel[start * rows : stop * rows] += part
            part = part.square_().view(stop - start, rows, times, rows)
            squares[start:stop] += part.sum((1, 3))

    def _size(self, factor: Tensor, times: int) -> int:
        return len(factor) // times * self.reached

    def _head(self, factor: Float[Tensor, "T_rows r"], times: int) -> Float[Tensor, "T_rows r"]:
        """Rows of the times that all batches have."""
        return factor[: self._size(factor, times)]

    def _cut(self, kernel: Float[Tensor, "T_rows T_columns"], times: int) -> Tensor:
        if times == self.reached:
            return kernel
        rows, columns = kernel.shape
        return kernel[: rows // times * self.reached, : columns // times * self.reached].clone()

    def _relative_error(self, squares: float, norm: float, count: int) -> float:
        """Of a mean kernel, from the sum of squared norms of the batches' kernels."""
        if not norm:
            return 0.0
        return math.sqrt(max(squares - count * norm, 0.0) / (count * (count - 1)) / norm)

    def _at_times(self, squares: Float[Tensor, "T T"], mean: Tensor, count: int) -> Tensor:
        """The same of each equal-time slice of a mean kernel, (T,)."""
        times = self.reached
        rows = len(mean) // times
        slices = mean.view(times, rows, times, rows).diagonal(dim1=0, dim2=2)
        norms = slices.square().sum((0, 1))
        pairs = zip(squares.diagonal().tolist(), norms.tolist(), strict=True)
        return torch.tensor([self._relative_error(s, n, count) for s, n in pairs]).to(mean)

    def _jackknife(self, runs: Float[Tensor, "B T All C"]) -> Float[Tensor, "T"]:
        """Standard error of the mse of mean outputs, by leaving out one batch at a time."""
        count = len(runs)
        others = (runs.sum(0) - runs) / (count - 1)
        mse = self.problem.mse(others[:, :, : self.problem.num_train])
        return ((mse - mse.mean(0)).square().sum(0) * (count - 1) / count).sqrt()

    def _tangent_kernel(self, phi: list[Tensor], g: list[Tensor]) -> Float[Tensor, "T P P C C"]:
        """sum_l Phi^l(t, t) G^(l+1)(t, t) of the training points."""
        train, outputs = self.problem.num_train, self.problem.num_outputs
        time = torch.arange(self.reached, device=self.problem.kernel.device)
        total = torch.zeros((), dtype=torch.float64, device=time.device)
        one = torch.eye(outputs, dtype=torch.float64, device=time.device)
        for layer in range(len(phi) + 1):
            low = self.problem.kernel[:train, :train].expand(self.reached, -1, -1)
            if layer:
                low = phi[layer - 1][:, :train, :, :train][time, :, time]
            high = one[None, None, :, None]
            if layer < len(g):
                high = g[layer][:, :train, :, :, :train][time, :, :, time]
            total = total + (low[:, :, None, :, None] * high).transpose(2, 3)
        return total.expand(self.reached, train, train, outputs, outputs)


def check_sampling(
    problem: Problem, samples: int, fields: int, *, responses: bool, memory: float
) -> Float[Tensor, "All r"]:
    """A root of K^x = root root^T, from which neurons of the first layer are drawn.

    Args:
        problem: what is to be solved.
        samples, fields: neurons of all batches, and those kept.
        responses: they are averaged too.
        memory: bytes that all averages may take.

    Raises:
        ValueError: too few samples; more fields than samples; inputs that are all zero; averages
            above the memory.
    """
    forward = problem.num_times * len(problem.kernel)
    train = problem.num_times * problem.num_train
    needed = problem.depth * forward**2 * (1 + problem.num_outputs**2)
    needed += 2 * (problem.depth - 1) * responses * train**2 * problem.num_outputs
    problem.check_memory(8 * needed, memory)
    values, vectors = torch.linalg.eigh(problem.kernel)
    if not float(values[-1]) > 0:
        raise ValueError("all inputs are zero, and so is every field; give others.")
    solid = values > 1e-12 * values[-1]
    least = 4 * BATCHES * (int(solid.sum()) + 8)
    if samples < least:
        raise ValueError(f"samples = {samples} are too few for these inputs; give {least} or more.")
    if fields > BATCHES * (samples // BATCHES):
        raise ValueError(
            f"fields must be between 0 and samples = {samples}, rounded down to a multiple of "
            f"{BATCHES}, got {fields}."
        )
    return vectors[:, solid] * values[solid].sqrt()
