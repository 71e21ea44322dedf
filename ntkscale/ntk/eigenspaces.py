"""How much of a kernel its leading eigenspaces hold, and how it turns and grows: float64 numbers.

Kernels of several outputs, (n, n, C, C) as of ``gram(..., output="full")``, count as matrices
(n C, n C). Every function takes both.

Source: Tsilivis & Kempe 2022 (arXiv 2210.05577), the kernels of adversarial training.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.measures import kernel_change, kernel_distance
from ntkscale.ntk.spectrum.eigen import eigensystem

Kernel = Float[Tensor, "n n"] | Float[Tensor, "n n C C"]


def flattened(k: Kernel) -> Float[Tensor, "m m"]:
    """The kernel as one symmetric float64 matrix, of several outputs sample by sample.

    Raises:
        ValueError: it is neither (n, n) nor (n, n, C, C), or holds a number that is not finite.
    """
    shape = tuple(k.shape)
    if k.ndim == 4 and shape[0] == shape[1] and shape[2] == shape[3]:
        k = k.transpose(1, 2).reshape(shape[0] * shape[2], shape[1] * shape[3])
    elif k.ndim != 2 or shape[0] != shape[1]:
        raise ValueError(
            f"the kernel has shape {shape}; pass (n, n), or (n, n, C, C) with all outputs."
        )
    if not bool(torch.isfinite(k).all()):
        raise ValueError("the kernel holds nan or infinity; look for a network that diverged.")
    return k.detach().double()


def centred(k: Kernel) -> Kernel:
    """H K H, H = 1 - 11^T / n over the samples: the kernel of features less their mean, float64.

    Without it one constant direction holds nearly all of the squared eigenvalues of a kernel on
    images, whatever the network.

    Raises:
        ValueError: not square over the samples.
    """
    if k.ndim < 2 or k.shape[0] != k.shape[1]:
        raise ValueError(
            f"the kernel has shape {tuple(k.shape)}; pass one of a set of samples with itself."
        )
    k = k.detach().double()
    rows, columns = k.mean(0, keepdim=True), k.mean(1, keepdim=True)
    return k - rows - columns + rows.mean(1, keepdim=True)


def trace_share(k: Kernel, top: int) -> float:
    """Share of the trace in the `top` largest eigenvalues, sum_{i <= top} w_i / sum_i w_i.

    Raises:
        ValueError: `top` is not in 1 to n; see `flattened`.
    """
    return _share(k, top, power=1)


def squared_share(k: Kernel, top: int) -> float:
    """The paper's mass_k, sum_{i <= top} w_i^2 / sum_i w_i^2.

    Of a kernel that is not centred it is close to 1 in any case, see `centred`.

    Raises:
        ValueError: as `trace_share`.
    """
    return _share(k, top, power=2)


def eigenspace_part(
    k: Kernel, *, top: int | None = None, bottom: int | None = None
) -> Float[Tensor, "m m"]:
    """V_s diag(w_s) V_s^T over the `top` largest or the `bottom` smallest eigenvalues.

    Raises:
        ValueError: not exactly one of the two, or it is not in 1 to n; see `flattened`.

    Cost: one eigendecomposition, some 9 n^3 multiply-adds.
    """
    if (top is None) == (bottom is None):
        raise ValueError("give either top or bottom: how many eigenvalues the part is of.")
    matrix = flattened(k)
    values, vectors = eigensystem(matrix)
    count = _counted(top if top is not None else bottom, len(matrix))
    part = slice(0, count) if top is not None else slice(len(matrix) - count, None)
    return (vectors[:, part] * values[part]) @ vectors[:, part].T


def polar(
    kernels: Sequence[Kernel],
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """The path of a kernel from K_0 to K_T: radius |K_t - K_0| / |K_T - K_0| and angle to K_0.

    The angle, arccos(1 - S(K_t, K_0)) in radians, is computed as 2 arcsin(sqrt(S / 2)), the same
    number, which keeps its digits where the kernel hardly turns. Both are nan where they are 0 / 0:
    the radius of a kernel that ends where it began, the angle of a kernel that is zero.

    Args:
        kernels: K_0 to K_T, at least two, of one shape.

    Raises:
        ValueError: fewer, or kernels of different shapes; see `flattened`.
    """
    if len(kernels) < 2:
        raise ValueError(f"{len(kernels)} kernels make no path: give K_0 and later ones.")
    first, last = flattened(kernels[0]), flattened(kernels[-1])
    length = kernel_change(first, last)
    radius, angle = [], []
    for kernel in map(flattened, kernels):
        half_chord = kernel_distance(first, kernel) / 2
        radius.append(kernel_change(first, kernel) / length)
        angle.append(2 * half_chord.clamp(max=1).sqrt().arcsin())
    return torch.stack(radius), torch.stack(angle)


def _share(k: Kernel, top: int, power: int) -> float:
    matrix = flattened(k)
    values = torch.linalg.eigvalsh(matrix).pow(power)  # ascending
    return float(values[-_counted(top, len(matrix)) :].sum() / values.sum())


def _counted(count: int | None, n: int) -> int:
    if count is None or not 1 <= count <= n:
        raise ValueError(f"{count} eigenvalues of a kernel that has {n}: give 1 to {n}.")
    return count
