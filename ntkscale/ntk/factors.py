"""The two factors of a linear map's gradient, laid out for products.

The gradient of a weight for output c of sample i is sum_p left_ip (x) right_cip over positions p.
So the kernel is sum_pq (left_ip . left_jq) (right_cip . right_djq): two Gram matrices, entry by
entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.ntk.capture import Chunk, Cotangents
from ntkscale.ntk.rules import Product
from ntkscale.ntk.uses import Use


@dataclass(frozen=True)
class Rights:
    """The cotangents' side, for every output.

    Attributes:
        dense: one (n, g, P, b) an output, or empty.
        shared: (n, g, P, b), what all outputs have in common, or None.
        weights: (C, g, b), what output c multiplies it with, or None.
    """

    dense: list[Tensor]
    shared: Tensor | None = None
    weights: Tensor | None = None


def left_of(use: Use, operand: Tensor) -> Tensor:
    """Activations (n, g, P, a), or indices (n, P)."""
    assert isinstance(use.rule, Product)
    return use.rule.left(operand)


def rights_of(use: Use, b: Cotangents, n: int, outputs: int) -> Rights:
    """Cotangents (n, g, P, b) of every output, in the form they were captured in."""
    rule = use.rule
    assert isinstance(rule, Product)
    if b.weights is None:
        return Rights([rule.right(t) for t in b.dense])
    weights = rule.right(b.weights)
    if b.shared is not None:
        # A weight that differs between positions cannot be taken out of the sum over them.
        weights = rule.right(b.weights.expand(-1, *b.shared.shape[1:]))
        if not bool((weights == weights[:, :, :1]).all()):
            return Rights([rule.right(b.of(c)) for c in range(outputs)])
        return Rights([], rule.right(b.shared), weights[:, :, 0])
    if weights.shape[2] != 1:
        return Rights([rule.right(b.of(c).expand(n, *b.of(c).shape[1:])) for c in range(outputs)])
    return Rights([], None, weights[:, :, 0])


@dataclass(frozen=True)
class Factors:
    """Both sides with positions as rows: row i * P + p is position p of sample i.

    Attributes:
        positions: P, over all uses of the weight together.
        left: one (n P, a) a group; empty where the left side is an index.
        index: (n P,) rows of an indexed weight, or None; `beyond` marks entries that do not count.
        beyond: first index that does not count.
        dense: for each group, one (n P, b) an output.
        shared: for each group (n P, b), or empty.
        weights: (C, g, b) beside `shared`; alone, a cotangent that is the same for all samples.
    """

    positions: int
    left: list[Float[Tensor, "r a"]]
    index: Int[Tensor, " r"] | None
    beyond: int
    dense: list[list[Float[Tensor, "r b"]]]
    shared: list[Float[Tensor, "r b"]]
    weights: Tensor | None

    @property
    def groups(self) -> int:
        """Groups of a grouped map."""
        return max(1, len(self.left))

    @classmethod
    def of(cls, uses: Sequence[tuple[int, Use]], chunk: Chunk) -> "Factors":
        """Put the uses of one weight side by side.

        Args:
            uses: all uses of the weight, with their places among the chunk's operands.
            chunk: the samples.
        """
        lefts = [left_of(use, chunk.operands[k][0]) for k, use in uses]
        rights = [
            rights_of(use, chunk.cotangents[use.node], chunk.n, chunk.outputs) for _, use in uses
        ]
        rule = uses[0][1].rule
        assert isinstance(rule, Product)
        index = None
        left: list[Tensor] = []
        if rule.rows:
            index = torch.cat(lefts, 1)
            positions = index.shape[1]
            index = index.flatten()
        else:
            positions = sum(t.shape[2] for t in lefts)
            left = [_as_rows([t[:, g] for t in lefts]) for g in range(lefts[0].shape[1])]
        groups = max(1, len(left))
        one = rights[0]
        if len(rights) == 1 and one.weights is not None:
            shared = (
                [] if one.shared is None else [_as_rows([one.shared[:, g]]) for g in range(groups)]
            )
            return cls(positions, left, index, rule.rows, [], shared, one.weights)
        dense = [
            [_as_rows([_dense(r, c, chunk.n)[:, g] for r in rights]) for c in range(chunk.outputs)]
            for g in range(groups)
        ]
        return cls(positions, left, index, rule.rows, dense, [], None)

    @property
    def dtype(self) -> torch.dtype:
        """Of the cotangents."""
        if self.weights is not None:
            return self.weights.dtype
        return self.dense[0][0].dtype


def _dense(rights: Rights, c: int, n: int) -> Tensor:
    if rights.weights is None:
        return rights.dense[c]
    weights = rights.weights[c][None, :, None]
    return weights.expand(n, -1, -1, -1) if rights.shared is None else rights.shared * weights


def _as_rows(parts: list[Tensor]) -> Tensor:
    """(n, P, a) each -> (n sum P, a), in memory as written."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return joined.reshape(-1, joined.shape[-1]).contiguous()
