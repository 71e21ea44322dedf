"""One batch of neurons of an infinitely wide network, marched through training.

Weights between layers l and l + 1 are Gaussian at initialisation and meet two kinds of vectors:
phi^l going up and g^(l+1) coming down. Given what they did to earlier ones, what they do to a new
one is known up to fresh noise (Bolthausen's conditioning). With q a direction of phi^l orthogonal
to all earlier ones, p those of g^(l+1), x = W q and y = W^T p,

    x = fresh + sum_p <y_p q> p,        y = fresh + sum_q <x_q p> q

The sums are the responses A^l and B^l of the theory (arXiv 2205.09653, eqs 5-10), as

    gamma0 A^l = <phi^l r^l> (G^(l+1))^-1,        gamma0 B^l = <g^(l+1) u^(l+1)> (Phi^l)^-1

by Stein's lemma. No derivative is taken, so kinks of phi and the equal-time part of B are in it.
What training adds to the weights is a sum of outer products of phi^l and g^(l+1),

    W(t) - W(0) = gamma0 / P sum_(s < t) w(t, s) sum_(al, c) Delta_(al c)(s) g_(al c)(s) phi_al(s)^T

and a small matrix in the coordinates of both spans. Time t needs only earlier times, so the
equations are solved by one march, at any gamma0. There is nothing to iterate, no kernel to factor.
A step costs some 12 S r n multiply-adds a layer, for n fields and spans of r directions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation
from ntkscale.theory.dmft.averages import BATCHES, SMALLEST_GAMMA0
from ntkscale.theory.dmft.problem import Problem
from ntkscale.theory.dmft.span import Layer, Span

_WEAK = 1e-3
"""Directions with a smaller share of their field get independent noise, which is cheaper."""

_CERTAIN = 16
"""Directions with a share below this over the number of all samples are left out of responses that
are reported. What they add to fields is small, but entries would be noise, of 1/4 and more."""


class Track:
    """Coordinates of one family of fields at all times, (T, rows, r) with r growing."""

    def __init__(self, times: int, rows: int, device: torch.device) -> None:
        self._buffer = torch.zeros(times, rows, 16, dtype=torch.float64, device=device)
        self.count = 0

    def put(self, time: int, coordinates: Float[Tensor, "rows r"]) -> None:
        """What the fields are at that time; r never falls."""
        self.count = coordinates.shape[1]
        short = self.count - self._buffer.shape[2]
        if short > 0:
            grown = max(short, self._buffer.shape[2] // 2)
            self._buffer = torch.nn.functional.pad(self._buffer, (0, grown))
        self._buffer[time, :, : self.count] = coordinates

    def until(self, time: int) -> Float[Tensor, "time rows r"]:
        """At all times before."""
        return self._buffer[:time, :, : self.count]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._buffer.nbytes


class Weights:
    """Weights between two layers, as far as fields have asked for them.

    Attributes:
        below, above: spans of phi^l and g^(l+1).
        up, down: W q and W^T p of their directions.
        below_track, above_track: coordinates of phi^l and g^(l+1) at all times.
        up_answers, down_answers: the coefficients <y q> and <x p> of new directions.
    """

    def __init__(self, problem: Problem, lower: Layer | None, upper: Layer | None) -> None:
        times, points = problem.num_times, len(problem.kernel)
        device = problem.kernel.device
        self.problem, self.lower, self.upper = problem, lower, upper
        any_layer = lower or upper
        assert any_layer is not None
        size = any_layer.size
        self.below, self.above = Span(size, device), Span(size, device)
        self.up, self.down = Span(size, device).basis, Span(size, device).basis
        self.below_track = Track(times, points, device)
        self.above_track = Track(times, points * problem.num_outputs, device)
        self.up_answers: list[Tensor] = []
        self.down_answers: list[Tensor] = []

    def learned(self, time: int, gamma0: float, delta: Tensor) -> Float[Tensor, "r_below r_above"]:
        """W(t) - W(0), transposed, in the coordinates of the two spans."""
        train = self.problem.num_train
        low = self.below_track.until(time)[:, :train]
        high = self.above_track.until(time)
        high = high.view(time, -1, self.problem.num_outputs, high.shape[2])[:, :train]
        weight = self.problem.weights[time, :time, None, None] * delta[:time] * (gamma0 / train)
        kicks = (weight[..., None] * high).sum(2)
        return low.reshape(time * train, -1).T @ kicks.reshape(time * train, -1)


class March:
    """A batch of neurons and their history.

    Args:
        problem: what is learned.
        root: K^x = root root^T.
        phi: the nonlinearity.
        size: S, neurons of each layer.
        responses: False leaves out A and B.
        tolerance: mean square of what spans may leave out of a field, relative to the field's.
        generator: of the initial weights.
        kept: neurons whose fields are kept at all times.

    Attributes:
        reached: times that are solved.
        outputs: f, (T, All, C).
        h, z: fields of the neurons kept, (T, All, kept) and (T, All, C, kept), a layer each.
    """

    def __init__(
        self,
        problem: Problem,
        root: Float[Tensor, "All r"],
        phi: Activation,
        size: int,
        *,
        responses: bool,
        tolerance: float,
        generator: torch.Generator,
        kept: int = 0,
    ) -> None:
        self.problem, self.phi, self.size, self.responses = problem, phi, size, responses
        self.gamma0 = max(problem.gamma0, SMALLEST_GAMMA0)
        # Near the lazy limit fields move by gamma0, and outputs are that movement over gamma0.
        self.tolerance = tolerance * min(1.0, self.gamma0**2)
        self.certain = _CERTAIN / (BATCHES * size)
        self.weak = _WEAK * min(1.0, self.gamma0**2)
        depth, times, points = problem.depth, problem.num_times, len(problem.kernel)
        train, outputs = problem.num_train, problem.num_outputs
        self.parts = ((slice(train), False), (slice(train, points), True))
        self.layers = [Layer(size, generator) for _ in range(depth)]
        ends = [None, *self.layers, None]
        self.weights = [Weights(problem, ends[i], ends[i + 1]) for i in range(depth + 1)]
        # Inputs are static; each column of the root has a direction of its own.
        self.root = root
        self.weights[0].up.add(self.layers[0].fresh(root.shape[1]))
        new = problem.kernel.new_zeros
        self.outputs, self.delta = new(times, points, outputs), new(times, train, outputs)
        self.flows = new(times, points, outputs)
        self.h = [new(times, points, kept) for _ in range(depth)]
        self.z = [new(times, points, outputs, kept) for _ in range(depth)]
        self.start: Tensor | None = None
        self.kept, self.reached = kept, 0

    @property
    def by_kernel(self) -> bool:
        """Whether outputs are integrals of the tangent kernel: without responses, the process alone
        does not know what lower layers learn."""
        return not self.responses and self.problem.depth > 1

    def advance(self) -> bool:
        """Solve the next time; False when the loss has diverged there.

        Raises:
            ExhaustedError: the neurons are too few.
        """
        time, problem = self.reached, self.problem
        learned = [
            weights.learned(time, self.gamma0, self.delta) if time else None
            for weights in self.weights
        ]
        fields = self._up(time, learned)
        signals = self._down(time, fields, learned)
        if self.by_kernel:
            rule = problem.weights[time, :time]
            self.outputs[time] = torch.einsum("s,smc->mc", rule, self.flows[:time])
        else:
            # Of order (S gamma0^2)^(-1/2) in a batch, zero with infinitely many neurons.
            self.start = signals if self.start is None else self.start
            self.outputs[time] = signals - self.start
        outputs = self.outputs[time, : problem.num_train]
        self.delta[time] = problem.delta(outputs)
        if self.by_kernel:
            self.flows[time] = self._flow(time)
        if problem.has_diverged(outputs):
            return False
        self.reached += 1
        return True

    def _up(self, time: int, learned: list[Tensor | None]) -> list[Tensor]:
        fields = []
        for layer, weights in enumerate(self.weights[:-1]):
            if layer == 0:
                weights.below_track.put(time, self.root)
            coordinates = weights.below_track.until(time + 1)[time]
            h = coordinates @ weights.up.rows
            change = learned[layer]
            if change is not None:
                # Directions that appeared at this time have learned nothing yet.
                seen = coordinates[:, : change.shape[0]]
                h = h + (seen @ change) @ weights.above.rows[: change.shape[1]]
            phi = self.phi(h)
            self._climb(time, self.weights[layer + 1], phi)
            self.h[layer][time] = h[:, : self.kept]
            fields.append(h)
        return fields

    def _climb(self, time: int, weights: Weights, phi: Float[Tensor, "All S"]) -> None:
        """Make the weights know phi."""
        for rows, tested in self.parts:
            new = weights.below.absorb(phi, time, rows, tolerance=self.tolerance, tested=tested)
            if new is None:
                continue
            weak = weights.below.weak(self.weak)
            assert weights.lower is not None
            weights.lower.see(new[: len(new) - weak])
            if weights.upper is None:
                continue
            # No field depends on the noise r of a test point.
            answer = new @ weights.down.rows.T / self.size * (1 - weights.above.tested())
            weights.up_answers.append(answer)
            up = weights.upper.fresh(len(new), weak)
            weights.up.add(up + answer @ weights.above.rows if self.responses else up)
        weights.below_track.put(time, weights.below.coordinates(phi))

    def _down(
        self, time: int, fields: list[Tensor], learned: list[Tensor | None]
    ) -> Float[Tensor, "All C"]:
        outputs = self.problem.num_outputs
        signals = None
        for layer in reversed(range(self.problem.depth)):
            weights, h = self.weights[layer + 1], fields[layer]
            if weights.upper is None:
                if not time:
                    weights.down.add(self.layers[layer].fresh(outputs))
                one = torch.eye(outputs, dtype=h.dtype, device=h.device)
                weights.above_track.put(time, one.repeat(len(h), 1))
            coordinates = weights.above_track.until(time + 1)[time]
            z = coordinates @ weights.down.rows
            change = learned[layer + 1]
            if change is not None:
                seen = coordinates[:, : change.shape[1]]
                z = z + (seen @ change.T) @ weights.below.rows[: change.shape[0]]
            z = z.view(len(h), outputs, self.size)
            if signals is None:
                signals = (z * self.phi(h)[:, None]).mean(2) / self.gamma0
            g = (self.phi.first(h)[:, None] * z).view(-1, self.size)
            self._descend(time, self.weights[layer], g)
            self.z[layer][time] = z[:, :, : self.kept]
        assert signals is not None
        return signals

    def _descend(self, time: int, weights: Weights, g: Float[Tensor, "All_C S"]) -> None:
        """Make the weights know g."""
        outputs = self.problem.num_outputs
        for rows, tested in self.parts:
            rows = slice((rows.start or 0) * outputs, rows.stop * outputs)
            new = weights.above.absorb(g, time, rows, tolerance=self.tolerance, tested=tested)
            if new is None:
                continue
            weak = weights.above.weak(self.weak)
            assert weights.upper is not None
            weights.upper.see(new[: len(new) - weak])
            if weights.lower is None:
                continue
            answer = new @ weights.up.rows.T / self.size
            if not tested:
                answer = answer * (1 - weights.below.tested())
            weights.down_answers.append(answer)
            down = weights.lower.fresh(len(new), weak)
            weights.down.add(down + answer @ weights.below.rows if self.responses else down)
        weights.above_track.put(time, weights.above.coordinates(g))

    def _flow(self, time: int) -> Float[Tensor, "All C"]:
        """df/dt by the tangent kernel."""
        train, outputs, total = self.problem.num_train, self.problem.num_outputs, 0
        for weights in self.weights:
            low = weights.below_track.until(time + 1)[time]
            high = weights.above_track.until(time + 1)[time]
            high = high.view(-1, outputs, high.shape[1])
            total = total + torch.einsum(
                "ma,mck,akd,ad->mc",
                low @ low[:train].T,
                high,
                high[:train].transpose(1, 2),
                self.delta[time],
            )
        assert isinstance(total, Tensor)
        return total / train

    def phi_factors(self) -> list[Float[Tensor, "T_All r"]]:
        """F of each Phi^l = F F^T."""
        return [w.below_track.until(self.reached).flatten(0, 1) for w in self.weights[1:]]

    def g_factors(self) -> list[Float[Tensor, "T_All_C r"]]:
        """F of each G^l = F F^T."""
        return [w.above_track.until(self.reached).flatten(0, 1) for w in self.weights[:-1]]

    def forward_responses(self) -> list[tuple[Tensor, Tensor]]:
        """A^1 ... A^(L-1) of training points, (TP, TPC), as products of two matrices."""
        return [
            self._response(w.below_track, 1, w.up_answers, w.above, self.problem.num_outputs)
            for w in self.weights[1:-1]
        ]

    def backward_responses(self) -> list[tuple[Tensor, Tensor]]:
        """B^1 ... B^(L-1) of training points, (TPC, TP), as products of two matrices."""
        return [
            self._response(w.above_track, self.problem.num_outputs, w.down_answers, w.below, 1)
            for w in self.weights[1:-1]
        ]

    def _response(
        self, track: Track, columns: int, answers: list[Tensor], kicked: Span, kicked_columns: int
    ) -> tuple[Tensor, Tensor]:
        """Response of the tracked fields to noise of those that the other span is of."""
        points, train = len(self.problem.kernel), self.problem.num_train
        count = kicked.basis.count
        table = torch.cat(
            [torch.nn.functional.pad(row, (0, count - row.shape[1])) for row in answers]
        )
        fields = track.until(self.reached)[:, : train * columns].flatten(0, 1)
        known = fields.shape[1]
        left = fields @ (table[:known] * (kicked.shares() > self.certain)) / self.gamma0
        return left, kicked.origins(self.reached, points * kicked_columns, train * kicked_columns)

    def nbytes(self) -> int:
        """Bytes held."""
        rows = [layer.seen for layer in self.layers]
        tracks = []
        for w in self.weights:
            rows += [w.below.basis, w.above.basis, w.up, w.down]
            tracks += [w.below_track, w.above_track]
        return sum(held.nbytes for held in (*rows, *tracks))
