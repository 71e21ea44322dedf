"""Which way each parameter's kernel is computed: told by what uses it, then by what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ntkscale.ntk.factors import left_of
from ntkscale.ntk.gradients import GradientTerm, Source
from ntkscale.ntk.grams import GramTerm
from ntkscale.ntk.graph import Edge
from ntkscale.ntk.rules import Product
from ntkscale.ntk.sources import Arrangement, PullBack, arrangement
from ntkscale.ntk.uses import Use, Uses
from ntkscale.ntk.waist import Waist

SMALL_PRODUCTS = 1.5
"""How much dearer a multiply-add is in the many small products that form gradients."""

SUMMED = 8.0
"""Multiply-adds that an entry costs when Gram matrices are multiplied and summed over positions."""

Term = GramTerm | GradientTerm


@dataclass(frozen=True)
class Sizes:
    """Sizes of a linear map's gradient: g groups, P positions, a by b entries."""

    groups: int
    positions: int
    a: int
    b: int
    indexed: bool

    def gram_cost(self, n: int, outputs: int) -> float:
        """Multiply-adds of the symmetric kernel on n samples by two Gram matrices.

        `outputs` is 0 where the cotangents are the same for all samples.
        """
        entries = (n * self.positions) ** 2 / 2 * self.groups
        left = SUMMED if self.indexed else self.a
        return entries * (left + outputs * self.b + (SUMMED if self.positions > 1 else 0))

    def gradient_cost(self, n: int, outputs: int) -> float:
        """The same by gradients, formed once."""
        entries = self.groups * self.a * self.b * outputs
        formed = 2 if self.indexed else SMALL_PRODUCTS * self.positions
        return n * entries * formed + n * n / 2 * entries


def choose_terms(
    uses: Uses,
    waist: Waist | None,
    leaves: dict[str, Tensor],
    banned: frozenset[str],
    n: int,
    outputs: int,
) -> tuple[list[Term], list[Use]]:
    """A term for every parameter that has rules for all its uses, and the uses they need.

    Args:
        uses: of a probe.
        waist: its linear head, if there is one.
        leaves: the probe's parameters.
        banned: parameters that must not be touched.
        n: samples of the kernel, which decide what is cheapest.
        outputs: how many.
    """
    left_out = uses.unresolved | banned
    needed: list[Use] = []
    by_parameter: dict[str, list[Use]] = {}
    # Parameters that share a source through a map other than an arrangement stand or fall together.
    while True:
        fallen = {
            name
            for use in uses.uses
            for name in uses.graph.parameters[use.source[0]]
            if uses.graph.parameters[use.source[0]] & left_out
        }
        if fallen <= left_out:
            break
        left_out = left_out | fallen
    for use in uses.uses:
        names = uses.graph.parameters[use.source[0]]
        if names & left_out:
            continue
        needed.append(use)
        for name in names:
            by_parameter.setdefault(name, []).append(use)
    place = {id(use): k for k, use in enumerate(needed)}
    found: list[Term] = []
    arranged = {use.source: arrangement(uses.graph, use.source, leaves) for use in needed}
    pulls = {s: PullBack(uses.graph, s, leaves) for s, where in arranged.items() if where is None}
    for name, own in by_parameter.items():
        with_places = [(place[id(use)], use) for use in own]
        size = leaves[name].numel() * (2 if leaves[name].is_complex() else 1)
        for sources in _independent(with_places, arranged, pulls):
            term = GradientTerm(name, size, tuple(sources))
            found.append(_cheaper(term, uses, waist, n, outputs))
    return _with_biases(found), needed


def _independent(
    own: Sequence[tuple[int, Use]],
    arranged: dict[Edge, Arrangement | None],
    pulls: dict[Edge, PullBack],
) -> list[list[Source]]:
    """Sources of one parameter, grouped so that different groups touch different entries."""
    groups: list[tuple[list[tuple[int, Use]], Arrangement | None]] = []
    for use in own:
        where = arranged[use[1].source]
        for members, known in groups:
            other = members[0][1]
            same = use[1].source == other.source or (
                where is not None and known is not None and known.same_as(where)
            )
            if same and other.shape == use[1].shape:
                members.append(use)
                break
        else:
            groups.append(([use], where))
    if len(groups) == 1:
        members, where = groups[0]
        pull = pulls[members[0][1].source] if where is None else None
        return [[Source(tuple(members), None, pull)]]
    sources = [
        Source(
            tuple(members),
            None if where is None else where.into,
            pulls[members[0][1].source] if where is None else None,
        )
        for members, where in groups
    ]
    touched = [s.into for s in sources]
    overlap = any(
        a is None or b is None or bool(torch.isin(a, b).any()) for a, b in combinations(touched, 2)
    )
    if overlap:
        return [sources]
    return [[Source(s.uses, None, s.pull_back)] for s in sources]


def sizes_of(uses: Sequence[tuple[int, Use]], uses_found: Uses) -> Sizes:
    """Sizes of a product, read off the probe."""
    positions_, groups, a, b, indexed = 0, 1, 1, 1, False
    for _, use in uses:
        assert isinstance(use.rule, Product)
        node = uses_found.graph.nodes[use.node]
        left = left_of(use, use.rule.operand(node).detach())
        if use.rule.rows:
            positions_ += left.shape[1]
            groups, a, indexed = 1, use.rule.rows, True
        else:
            _, groups, p, a = left.shape
            positions_ += p
        b = math.prod(use.shape) // (groups * a)
    return Sizes(groups, positions_, a, b, indexed)


def _cheaper(term: GradientTerm, uses: Uses, waist: Waist | None, n: int, outputs: int) -> Term:
    if not term.sliced:
        return term
    own = term.sources[0].uses
    sizes = sizes_of(own, uses)
    constant = waist is not None and all(use.node == waist.logits for _, use in own)
    if sizes.gram_cost(n, 0 if constant else outputs) <= sizes.gradient_cost(n, outputs):
        return GramTerm(term.name, None, own)
    return term


def _with_biases(terms: list[Term]) -> list[Term]:
    """Join a bias to the weight of the same operations: its products of cotangents are the same."""
    biases = {
        tuple(sorted(use.node for _, use in t.sources[0].uses)): t
        for t in terms
        if isinstance(t, GradientTerm) and _is_plain_bias(t)
    }
    joined: dict[int, GramTerm] = {}
    gone: set[int] = set()
    for t in terms:
        if isinstance(t, GramTerm) and _is_plain_weight(t):
            bias = biases.pop(tuple(sorted(use.node for _, use in t.uses)), None)
            if bias is not None:
                joined[id(t)] = GramTerm(t.weight, bias.name, t.uses)
                gone.add(id(bias))
    return [joined.get(id(t), t) for t in terms if id(t) not in gone]


def _is_plain_bias(t: GradientTerm) -> bool:
    return (
        len(t.sources) == 1
        and t.sources[0].pull_back is None
        and all(use.role == "bias" for _, use in t.sources[0].uses)
    )


def _is_plain_weight(t: GramTerm) -> bool:
    return all(use.role == "biased" for _, use in t.uses)
