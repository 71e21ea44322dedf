"""The same loss on samples: constant and linear part are fitted anew to them at every look.

y = f*(x) at n points x ~ N(0, 1). With Q an orthonormal basis of (1, x) on them, the best alpha
and beta leave of any vector its part outside Q; by the envelope theorem they need no gradient.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.tail import Tail
from ntkscale.theory.local_analysis.teacher import Teacher


@dataclass(frozen=True)
class Sampled:
    """The loss of students on n samples; an `Objective`. Cost O(n m d) a call.

    Attributes:
        inputs: (n, d).
        targets: (n,), outside the span of (1, x).
        basis: (n, d + 1), orthonormal, of (1, x).
        phi: tail of the nonlinearity.
    """

    inputs: Float[Tensor, "n d"]
    targets: Float[Tensor, "n"]
    basis: Float[Tensor, "n p"]
    phi: Tail

    def loss(self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]) -> Float[Tensor, "..."]:
        """Mean of (f - y)^2 over the samples, alpha and beta at their optimum."""
        norms = W.norm(dim=-1)
        features = self.phi.function(self.inputs @ (W / norms[..., None]).mT)
        return self._left(features, a * norms).square().mean(-1)

    def gradients(
        self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m"], Float[Tensor, "... m d"], Float[Tensor, "..."]]:
        """Gradients in a and W, and the loss, without a graph."""
        with torch.no_grad():
            norms = W.norm(dim=-1)
            units = W / norms[..., None]
            fields = self.inputs @ units.mT
            values, slopes = self.phi.function(fields), self.phi.first(fields)
            left = self._left(values, a * norms)
            share = left / len(self.inputs)
            residual = (share[..., None, :] @ values)[..., 0, :]
            pull = (share[..., None] * slopes).mT @ self.inputs
            radial = residual - (units * pull).sum(-1)
            by_w = 2 * a[..., None] * (pull + radial[..., None] * units)
        return 2 * norms * residual, by_w, left.square().mean(-1)

    def normal_equations(
        self, W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m m"], Float[Tensor, "... m"]]:
        """Gram matrix of the features outside (1, x), and their products with the targets."""
        features = self.phi.function(self.inputs @ (W / W.norm(dim=-1, keepdim=True)).mT)
        features = features * W.norm(dim=-1)[..., None, :]
        features = features - self.basis @ (self.basis.T @ features)
        return features.mT @ features / len(self.inputs), features.mT @ self.targets / len(
            self.inputs
        )

    def _left(self, features: Tensor, c: Tensor) -> Tensor:
        error = (features @ c[..., None])[..., 0] - self.targets
        return error - (error @ self.basis) @ self.basis.T


def draw_samples(teacher: Teacher, phi: Tail, count: int, seed: int) -> Sampled:
    """n samples of the teacher.

    Args:
        teacher: its device is where the samples are.
        phi: tail of its nonlinearity.
        count: n.
        seed: of the inputs.

    Raises:
        ValueError: no more samples than a constant and a line take up.
    """
    dimension = teacher.directions.shape[1]
    if count <= dimension + 1:
        raise ValueError(
            f"{count} samples are fitted by a constant and a line in {dimension} dimensions: give "
            f"more than {dimension + 1}."
        )
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    x = x.to(teacher.directions.device)
    y = phi.function(x @ teacher.directions.T) @ teacher.weights
    basis = torch.linalg.qr(torch.cat((torch.ones_like(x[:, :1]), x), 1)).Q
    return Sampled(x, y - basis @ (basis.T @ y), basis, phi)
