"""Finished batches of a Monte-Carlo solution on disk, so that a killed one goes on.

Batches are independent but for their generator of random numbers, so sums over those that are done
and the generator's state are all that the next one needs: the result is bitwise the uninterrupted
one.
"""

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from ntkscale.theory.activations import Activation
from ntkscale.theory.dmft import files
from ntkscale.theory.dmft.averages import Averages
from ntkscale.theory.dmft.problem import Problem

FORMAT = "ntkscale.dmft unfinished solution 1"


class Resumption:
    """Where finished batches lie.

    Args:
        path: of the file; None keeps nothing.
        problem: what is solved.
        phi: the nonlinearity, told apart by its values.
        options: numbers that decide the rest of the result.

    Attributes:
        done: batches that are finished.
        seconds: what they took, earlier processes included.
        nbytes: the largest of them.
        why: what stopped one of them early.
    """

    def __init__(
        self, path: str | Path | None, problem: Problem, phi: Activation, **options: float
    ) -> None:
        self._path = None if path is None else Path(path)
        self._device = problem.kernel.device
        self._identity = _identity(problem, phi, options)
        self.done, self.seconds, self.nbytes, self.why = 0, 0.0, 0, ""

    def load(self, averages: Averages, generator: torch.Generator) -> None:
        """Put what is on disk into fresh averages and the generator; nothing if there is none.

        Raises:
            ValueError: the file is damaged, or that of other arguments.
        """
        if self._path is None or not self._path.exists():
            return
        tensors, header = files.read(self._path, self._device, FORMAT)
        if header.get("identity") != self._identity:
            raise ValueError(
                f"{self._path} is of a solution with other arguments; give another checkpoint, or "
                "delete it."
            )
        try:
            generator.set_state(tensors.pop("generator").cpu())
            averages.restore(tensors)
            self.done, self.seconds = header["done"], header["seconds"]
            self.nbytes, self.why = header["nbytes"], header["why"]
        except files.UNREADABLE as error:
            raise files.damaged(self._path, error) from error

    def save(self, averages: Averages, generator: torch.Generator) -> None:
        """Keep the batches done so far."""
        if self._path is None:
            return
        header = {
            "format": FORMAT,
            "identity": self._identity,
            "done": self.done,
            "seconds": self.seconds,
            "nbytes": self.nbytes,
            "why": self.why,
        }
        files.write(self._path, averages.state() | {"generator": generator.get_state()}, header)

    def clear(self) -> None:
        """Remove the file: the solution is there."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _identity(problem: Problem, phi: Activation, options: dict[str, float]) -> str:
    """A digest of everything that decides the result."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    probe = torch.linspace(-4.0, 4.0, 33, dtype=torch.float64)
    values = [phi(probe), phi.first(probe), *(getattr(problem, f.name) for f in fields(problem))]
    for value in values:
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()
