"""The loss over all x ~ N(0, 1), exactly: a quadratic form in kernels of the tail (D.3).

With c_j = a_j |w_j|, K(w, v) = |w| |v| kappa(cos), alpha and beta at their optimum,

    L = a^T K(W, W) a - 2 a^T K(W, W*) a* + a*^T K(W*, W*) a*
    dK/dw = |v| (kappa(rho) w^ + kappa'(rho) (v^ - rho w^)).

A nonlinearity that is not homogeneous acts as its homogeneous extension |w| phi(w^.x), which for
ReLU and |z| is phi(w.x) itself. Cost O(m (m + k) d) a call.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.tail import Tail
from ntkscale.theory.local_analysis.teacher import Teacher


@dataclass(frozen=True)
class Population:
    """The exact loss of students of one teacher; an `Objective`, differentiable by autograd too.

    Attributes:
        teacher: what is learned; its device is where everything is.
        phi: tail of the nonlinearity of teacher and student.
    """

    teacher: Teacher
    phi: Tail

    @property
    def scale(self) -> float:
        """a*^T K(W*, W*) a*, the loss of the best constant and line."""
        return float(self.teacher.weights @ self.teacher_gram @ self.teacher.weights)

    @property
    def teacher_gram(self) -> Float[Tensor, "k k"]:
        """K(W*, W*)."""
        return self.phi.kappa(self.teacher.cosines)

    def loss(self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]) -> Float[Tensor, "..."]:
        """L, clipped by nothing: rounding may leave -1e-17 at the minimum."""
        norms = W.norm(dim=-1)
        units = W / norms[..., None]
        c, own, weights = a * norms, self.teacher.directions, self.teacher.weights
        quadratic = c * (self.phi.kappa(_cosines(units, units)) @ c[..., None])[..., 0]
        linear = c * (self.phi.kappa(_cosines(units, own)) @ weights)
        return quadratic.sum(-1) - 2 * linear.sum(-1) + self.scale

    def gradients(
        self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m"], Float[Tensor, "... m d"], Float[Tensor, "..."]]:
        """dL/da, dL/dW and L in closed form, without a graph; NaN where a row of W is zero."""
        with torch.no_grad():
            norms = W.norm(dim=-1)
            units = W / norms[..., None]
            c, k = a * norms, len(self.teacher.weights)
            own = self.teacher.directions.expand(*W.shape[:-2], k, W.shape[-1])
            minus = -self.teacher.weights.expand(*W.shape[:-2], k)
            both, coefficients = torch.cat((units, own), -2), torch.cat((c, minus), -1)
            value, slope = self.phi.pair(_cosines(units, both))
            residual = (value @ coefficients[..., None])[..., 0]  # <f - y, phi(w^_j.x)>
            pull = (slope * coefficients[..., None, :]) @ both
            radial = residual - (units * pull).sum(-1)
            by_w = 2 * a[..., None] * (pull + radial[..., None] * units)
            # The residual on the teacher's neurons completes the quadratic form.
            linear = (value[..., -k:] @ self.teacher.weights * c).sum(-1)
            loss = (c * residual).sum(-1) - linear + self.scale
        return 2 * norms * residual, by_w, loss

    def normal_equations(
        self, W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m m"], Float[Tensor, "... m"]]:
        """K(W, W) and K(W, W*) a*."""
        norms = W.norm(dim=-1)
        units = W / norms[..., None]
        gram = self.phi.kappa(_cosines(units, units))
        target = self.phi.kappa(_cosines(units, self.teacher.directions)) @ self.teacher.weights
        return norms[..., None] * norms[..., None, :] * gram, norms * target

    def residual(
        self, a: Float[Tensor, "m"], W: Float[Tensor, "m d"], w: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n"]:
        """E (f - y) phi_(>=2)(w.x) for unit directions w, differentiable in them."""
        norms = W.norm(dim=-1, keepdim=True)
        mine = self.phi.kappa(_cosines(w, W / norms)) @ (a * norms[:, 0])
        return mine - self.phi.kappa(_cosines(w, self.teacher.directions)) @ self.teacher.weights


def _cosines(u: Tensor, v: Tensor) -> Tensor:
    product = u @ v.mT
    return product.clamp(-1, 1) if product.requires_grad else product.clamp_(-1, 1)
