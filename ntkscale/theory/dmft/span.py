"""Directions in the space of neurons: what fields have reached so far, and noise beyond it.

A field of an infinitely wide layer is a random variable, one value a neuron. With S sampled neurons
it is a vector of length S, and averages over neurons are inner products <a b> = a.b / S. Through
training the fields of all points at all times stay close to a space of few dimensions. `Span` keeps
an orthonormal basis of it, grown only when a field leaves it.

Weights at initialisation are Gaussian, so what they do to a direction never seen before is fresh
noise. `Layer` draws it orthogonal to all that its neurons have seen. That is what infinitely many
neurons would show, and S independent ones only up to S^(-1/2): second moments of the Gaussian parts
come out exact, but for directions too weak to matter.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDING = 1e-10
"""Mean square below which the rest of a unit vector is rounding, not a direction."""


class ExhaustedError(Exception):
    """The neurons of a batch are too few for all directions of a field."""


@dataclass(frozen=True)
class Birth:
    """Where new directions came from: q = mix (field - before . older directions).

    Attributes:
        time: index t of the field.
        rows: the field's rows that were looked at.
        mix: (new, rows).
        before: (rows, old), the field's coordinates.
        share: (new,), mean square of each direction's part in the field, relative to the field's.
        tested: the rows were test points.
    """

    time: int
    rows: slice
    mix: Float[Tensor, "new rows"]
    before: Float[Tensor, "rows old"]
    share: Float[Tensor, "new"]
    tested: bool


class Rows:
    """A matrix that grows by rows, at amortised cost."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._buffer = torch.empty(16, size, dtype=torch.float64, device=device)
        self.count = 0

    @property
    def rows(self) -> Float[Tensor, "count size"]:
        """What was added, a view."""
        return self._buffer[: self.count]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._buffer.nbytes

    def add(self, rows: Float[Tensor, "new size"]) -> None:
        """Append."""
        total = self.count + len(rows)
        if total > len(self._buffer):
            # Half as much again: doubling would waste up to half of a large memory.
            larger = self._buffer.new_empty(max(total, 3 * len(self._buffer) // 2), rows.shape[1])
            larger[: self.count] = self.rows
            self._buffer = larger
        self._buffer[self.count : total] = rows
        self.count = total


class Layer:
    """Neurons of one layer: all directions they have seen, and fresh noise orthogonal to these.

    Args:
        size: S, the number of neurons.
        generator: where noise comes from; its device is used.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator
        self.seen = Rows(size, generator.device)
        # The first direction is the constant one, so that noise has mean zero.
        self.seen.add(torch.ones(1, size, dtype=torch.float64, device=generator.device))

    def fresh(self, count: int, weak: int = 0) -> Float[Tensor, "count S"]:
        """Rows of noise of mean square one, orthonormal and orthogonal to everything seen.

        Args:
            count: rows.
            weak: of these, the last are independent samples and no more. They are for directions so
                weak that the error of sampling them does not matter. So are all rows once half of
                the neurons' dimensions are taken, as what is left would be no Gaussian noise.
        """
        noise = torch.randn(
            count,
            self.size,
            generator=self.generator,
            device=self.generator.device,
            dtype=torch.float64,
        )
        strong = min(count - weak, self._room())
        if strong:
            noise[:strong] = _orthonormal(_without(noise[:strong], self.seen.rows))
            self.seen.add(noise[:strong])
        return noise

    def see(self, directions: Float[Tensor, "new S"]) -> None:
        """Have later noise orthogonal to these directions too."""
        rest = _without(directions[: self._room()], self.seen.rows)
        values, mix = torch.linalg.eigh(rest @ rest.T / self.size)
        new = values > _ROUNDING
        if bool(new.any()):
            rest = (mix[:, new] * values[new].rsqrt()).T @ rest
            self.seen.add(_orthonormal(_without(rest, self.seen.rows)))

    def _room(self) -> int:
        """How many more directions can be kept in mind."""
        return max(self.size // 2 - self.seen.count, 0)


class Span:
    """An orthonormal basis of what one family of fields has reached.

    Attributes:
        births: where its directions came from, in order.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.basis = Rows(size, device)
        self.births: list[Birth] = []

    @property
    def rows(self) -> Float[Tensor, "r S"]:
        """The directions."""
        return self.basis.rows

    def coordinates(self, fields: Float[Tensor, "n S"]) -> Float[Tensor, "n r"]:
        """<field direction>."""
        return fields @ self.rows.T / fields.shape[1]

    def absorb(
        self,
        fields: Float[Tensor, "n S"],
        time: int,
        rows: slice,
        *,
        tolerance: float,
        tested: bool,
    ) -> Float[Tensor, "new S"] | None:
        """Add what of fields[rows] lies outside, down to a relative mean square of `tolerance`.

        Returns:
            The new directions, those of the largest shares first; None if there are none.

        Raises:
            ExhaustedError: directions are more than three quarters of the neurons.
        """
        fields = fields[rows]
        if not len(fields):
            return None
        before = self.coordinates(fields)
        energy = fields.square().mean(1)
        scale = float(energy.mean())
        outside = energy - before.square().sum(1)
        # The sum over fields bounds the largest eigenvalue below.
        if not scale > 0 or float(outside.sum()) <= tolerance * scale:
            return None
        rest = fields - before @ self.rows
        share, vectors = torch.linalg.eigh(rest @ rest.T / rest.shape[1] / scale)
        kept = share > max(tolerance, 1e-14)
        if not bool(kept.any()):
            return None
        share, vectors = share[kept].flip(0), vectors[:, kept].flip(1)
        mix = vectors.T / (share * scale).sqrt()[:, None]
        directions = _orthonormal(_without(mix @ rest, self.rows))
        self.births.append(Birth(time, rows, mix, before, share, tested))
        self.basis.add(directions)
        if 4 * self.basis.count > 3 * fields.shape[1]:
            raise ExhaustedError(
                f"{self.basis.count} directions for {fields.shape[1]} neurons a batch"
            )
        return directions

    def weak(self, share: float) -> int:
        """How many of the directions added last have a smaller share."""
        return int((self.births[-1].share < share).sum())

    def tested(self) -> Float[Tensor, "r"]:
        """1 for directions that test points have added, else 0."""
        flags = [float(birth.tested) for birth in self.births for _ in birth.share]
        return torch.tensor(flags, dtype=torch.float64, device=self.rows.device)

    def shares(self) -> Float[Tensor, "r"]:
        """Of each direction in the field that brought it, when it did."""
        return torch.cat([birth.share for birth in self.births])

    def origins(self, times: int, points: int, train: int) -> Float[Tensor, "r times_train"]:
        """Directions as sums of fields: direction = sum_(t, row) origins field_row(t).

        Args:
            times: T.
            points: rows of a field.
            train: of these, the first are of training points; the others' columns are left out,
                and directions that test points added are zero.
        """
        new = self.rows.new_zeros
        all_rows = new(self.basis.count, times, points)
        start = 0
        for birth in self.births:
            if birth.time >= times:
                break
            stop = start + len(birth.share)
            old = birth.before.shape[1]
            chain = all_rows[:old].reshape(old, times * points)
            made = -(birth.mix @ birth.before) @ chain
            all_rows[start:stop] = made.view(stop - start, times, points)
            all_rows[start:stop, birth.time, birth.rows] += birth.mix
            start = stop
        kept = all_rows[:, :, :train] * (1 - self.tested())[:, None, None]
        return kept.reshape(self.basis.count, times * train)


def _without(
    vectors: Float[Tensor, "new S"], basis: Float[Tensor, "r S"]
) -> Float[Tensor, "new S"]:
    """What is orthogonal to an orthonormal basis; twice, as rounding demands."""
    for _ in range(2):
        vectors = vectors - (vectors @ basis.T / vectors.shape[1]) @ basis
    return vectors


def _orthonormal(vectors: Float[Tensor, "new S"]) -> Float[Tensor, "new S"]:
    """Orthogonal rows of mean square one, as near to linearly independent old ones as can be.

    So mixtures known for the old rows hold for the new ones where those were nearly orthonormal.
    """
    for _ in range(2):
        values, mix = torch.linalg.eigh(vectors @ vectors.T / vectors.shape[1])
        vectors = (mix * values.rsqrt()) @ mix.T @ vectors
    return vectors
