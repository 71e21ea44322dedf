"""What a loss has to offer to be trained on: the exact one and that of samples alike."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor


class Objective(Protocol):
    """min over alpha, beta of E (f - y)^2, f = sum_j a_j |w_j| phi(w^_j.x) + alpha + beta.x.

    Leading axes of (a, W) are students that are looked at side by side.
    """

    def loss(self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]) -> Float[Tensor, "..."]:
        """The loss, without regularisation."""
        ...

    def gradients(
        self, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m"], Float[Tensor, "... m d"], Float[Tensor, "..."]]:
        """Its gradients in a and W, and the loss."""
        ...

    def normal_equations(
        self, W: Float[Tensor, "... m d"]
    ) -> tuple[Float[Tensor, "... m m"], Float[Tensor, "... m"]]:
        """G, b such that the loss is a^T G a - 2 b^T a + const for these W."""
        ...
