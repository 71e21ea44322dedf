"""The product K V = J (J^T V) over all samples, block by block, within a memory budget."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.inputs import Batch, count, rows
from ntkscale.ntk.passes import Passes, choose
from ntkscale.ntk.suitability import probe, undisturbed

WORKING_SET = 64 << 20
"""Bytes of activations one step on a processor works on. Measured on a network of 784-512-512-512:
a quarter costs a fifth more, four times as much leaves the cache and costs a sixth more."""

TOGETHER = 4
"""Vectors that are differentiated together on a processor. Measured: a vector costs 0.6 to 0.8 of
what it costs alone; eight together cost as much for dense layers and twice as much for
convolutions."""

TOGETHER_CUDA = 32
"""The same on a CUDA device, where launches rather than arithmetic bound small networks."""


@dataclass(frozen=True)
class Products:
    """Products of one model's kernel with vectors.

    Attributes:
        passes: how the model is differentiated.
        x: all samples.
        outputs: the outputs the kernel is summed over.
        size: number of outputs C of the model.
        full: a vector has an entry for each output of each sample instead of one a sample.
        samples: samples in a block.
        vectors: directions in parameter space held at a time.
        together: directions differentiated at a time.
    """

    passes: Passes
    x: Batch
    outputs: tuple[int, ...]
    size: int
    full: bool
    samples: int
    vectors: int
    together: int

    @classmethod
    def of(
        cls,
        passes: Passes,
        x: Batch,
        *,
        outputs: tuple[int, ...],
        size: int,
        full: bool,
        sample_bytes: int,
        memory: int,
    ) -> "Products":
        """Cut the work: half the budget for directions in parameter space, half for activations."""
        device = passes.forward.device
        sums = accumulator(device).itemsize
        entry = sum(
            p.numel() * (2 if p.is_complex() else 1) * (sums + 2 * p.dtype.to_real().itemsize)
            for p in passes.forward.chosen.values()
        )
        vectors = max(1, memory // 2 // max(1, entry))
        processor = device.type == "cpu"
        together = min(vectors, TOGETHER if processor else TOGETHER_CUDA)
        room = min(memory // 2, WORKING_SET) if processor else memory // 2
        kept = max(1, sample_bytes + 8 * size)
        samples = min(count(x), max(1, room // (kept * (1 + 2 * together))))
        return cls(passes, x, outputs, size, full, samples, vectors, together)

    @property
    def length(self) -> int:
        """Entries of a vector."""
        return count(self.x) * (self.size if self.full else 1)

    @property
    def passes_each(self) -> int:
        """Passes over all samples that one product takes in each of the two directions."""
        return 1 if self.full else len(self.outputs)

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def times(self, v: Float[Tensor, "N k"]) -> Float[Tensor, "N k"]:
        """K V in the precision sums are taken in; each column is independent of the others.

        Equal calls give equal bits: blocks are taken in one order.
        """
        device = self.passes.forward.device
        v = v.detach().to(device, accumulator(device))
        # A tensor made in inference mode cannot be written to outside it.
        v = v.clone() if v.is_inference() else v
        result = torch.zeros_like(v)
        # A traced kernel is a sum over outputs: each output of each column is a direction.
        directions = [
            (j, c) for j in range(v.shape[1]) for c in ((-1,) if self.full else self.outputs)
        ]
        with self.passes.ready():
            for first in range(0, len(directions), self.vectors):
                group = directions[first : first + self.vectors]
                self._push_forward(self._pull_back(v, group), group, result)
        return result

    def _blocks(self) -> Iterator[tuple[slice, Batch]]:
        for start in range(0, count(self.x), self.samples):
            at = slice(start, min(start + self.samples, count(self.x)))
            yield at, rows(self.x, at)

    def _pull_back(self, v: Tensor, group: list[tuple[int, int]]) -> list[Tensor]:
        """J^T v of every direction of the group, one tensor (g, ...) for each parameter."""
        chosen = list(self.passes.forward.chosen.values())
        totals = []
        for p in chosen:
            sums = accumulator(p.device)
            sums = sums.to_complex() if p.is_complex() else sums
            totals.append(torch.zeros(len(group), *p.shape, dtype=sums, device=p.device))
        for at, part in self._blocks():
            cotangents = (self._cotangents(v, at, few) for few in self._few(group))
            done = 0
            for gradients in self.passes.pull_back(part, cotangents):
                for total, gradient in zip(totals, gradients, strict=True):
                    total[done : done + gradient.shape[0]] += gradient
                done += gradients[0].shape[0]
        return [total.to(p.dtype) for total, p in zip(totals, chosen, strict=True)]

    def _push_forward(
        self, along: list[Tensor], group: list[tuple[int, int]], result: Tensor
    ) -> None:
        """Add J u of every direction to the column it belongs to."""
        into = result.view(-1, self.size if self.full else 1, result.shape[1])
        for at, part in self._blocks():
            starts = range(0, len(group), self.together)
            tangents = ([u[i : i + self.together] for u in along] for i in starts)
            pushed = self.passes.push_forward(part, tangents)
            for few, values in zip(self._few(group), pushed, strict=True):
                for (j, c), y in zip(few, values.to(into.dtype), strict=True):
                    into[at, :, j] += y if self.full else y[:, c : c + 1]

    def _few(self, group: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        for i in range(0, len(group), self.together):
            yield group[i : i + self.together]

    def _cotangents(
        self, v: Tensor, at: slice, few: list[tuple[int, int]]
    ) -> Float[Tensor, "t s C"]:
        if self.full:
            part = v.view(-1, self.size, v.shape[1])[at]
            return part[..., [j for j, _ in few]].permute(2, 0, 1)
        stack = v.new_zeros(len(few), at.stop - at.start, self.size)
        for i, (j, c) in enumerate(few):
            stack[i, :, c] = v[at, j]
        return stack


def products(
    forward: Forward, x: Batch, *, output: int | None, full: bool, memory: int
) -> Products:
    """Check that the model has a kernel, choose how to differentiate it, and cut the work.

    Args:
        forward: the model.
        x: all samples, on the model's device.
        output: the one output the kernel is taken of; None takes all.
        full: keep outputs apart instead of summing over them.
        memory: budget in bytes.

    Raises:
        ValueError: no kernel is defined for this model, or no products with it; no such output.
    """
    with undisturbed(forward.device):
        size, sample_bytes = probe(forward, x)
    if output is not None and not -size <= output < size:
        raise ValueError(f"output {output} does not exist; the model has {size}, counted from 0.")
    return Products.of(
        choose(forward, x),
        x,
        outputs=tuple(range(size)) if output is None else (output % size,),
        size=size,
        full=full,
        sample_bytes=sample_bytes,
        memory=memory,
    )


def accumulator(device: torch.device) -> torch.dtype:
    """What sums and the vectors of iterations are held in: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
