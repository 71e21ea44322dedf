"""Usefulness and robustness of functions of one output, many at a time.

    useful = P[sign f(x) = y],   robust = P[sign f(x + delta(x)) = y],

delta one step of FGSM against f itself; y is -1 for label 0 and +1 for label 1, and f = 0 is wrong
(Tsilivis & Kempe 2022, arXiv 2210.05577, section 4; Ilyas et al. 2019, arXiv 1905.02175).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.checks import check_batch, check_range
from ntkscale.robustness.expansion import Expansion
from ntkscale.robustness.infinite_kernel import ClosedExpansion
from ntkscale.robustness.shares import Shares
from ntkscale.robustness.threat import Threat

_AT_ONCE = 2**20  # numbers of attacked inputs


def useful(functions: Expansion, x: Float[Tensor, "m ..."], labels: Int[Tensor, "m"]) -> Shares:
    """How often each of k functions is right, from `KernelPredictor.each_feature` and its kin.

    Args:
        functions: x -> (m, k), each column of one output.
        x, labels: held-out samples of two classes.

    Raises:
        ValueError: labels other than 0 and 1, or not one a sample.
    """
    y = _signs(x, labels)
    with torch.no_grad():
        outputs = functions(x)
    return _counted((outputs * y[:, None].to(outputs) > 0).sum(0), len(x))


def robust(
    functions: Expansion,
    x: Float[Tensor, "m ..."],
    labels: Int[Tensor, "m"],
    threat: Threat,
    *,
    dtype: torch.dtype = torch.float64,
) -> Shares:
    """How often each of k functions is right on inputs attacked through that function alone.

    Args:
        functions, x, labels: as for `useful`.
        threat: ball and range of the attack, one step of FGSM with the labels known.
        dtype: of the arithmetic where gradients have a closed form; float32 halves the time, and
            changes the answer where an output or a gradient is at its rounding.

    Raises:
        ValueError: as `useful`; inputs outside the threat's range.

    Cost: 2 m k products of D P numbers, for gradients and for outputs.
    """
    y = _signs(x, labels)
    check_batch(x, labels)
    check_range(x, threat)
    if isinstance(functions, ClosedExpansion):
        functions = functions.to(dtype)
    with torch.no_grad():
        count = functions(x[:1]).shape[1]
    step = max(1, _AT_ONCE // (count * x[0].numel()))
    total = torch.zeros(count, dtype=torch.int64, device=x.device)
    for some, sign in zip(x.split(step), y.split(step), strict=True):
        sign = sign[:, None].expand(-1, count)
        gradient = functions.jacobian(some).flatten(0, 1)
        ahead = threat.steepest(gradient).to(some)
        ahead *= -sign.reshape(-1, *[1] * (some.ndim - 1)).to(some)
        start = some.repeat_interleave(count, dim=0)
        moved = threat.project(start + threat.eps * ahead, start)
        with torch.no_grad():
            outputs = functions.own(moved.unflatten(0, (-1, count)))
        total += (outputs * sign.to(outputs) > 0).sum(0)
    return _counted(total, len(x))


def _signs(x: Tensor, labels: Tensor) -> Int[Tensor, "m"]:
    if labels.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"{len(x)} samples have labels of shape {tuple(labels.shape)}: give one a sample, and "
            "at least one sample."
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(
            "features are of one output, whose labels are 0 (target -1) and 1 (target +1): number "
            "the two classes so, or attack a predictor of several outputs as a whole."
        )
    return (2 * labels - 1).to(x.device)


def _counted(correct: Tensor, total: int) -> Shares:
    return Shares(correct.cpu().numpy(), total)
