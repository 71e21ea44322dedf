"""Every scaling exponent that alpha and beta predict, lazy and rich."""

import math
from dataclasses import dataclass
from typing import Literal

from ntkscale.scaling.regime import Regime, check_exponents, regime

Term = Literal["time", "batch transient", "width transient", "model"]
"""A term of the loss: t^-time, (eta / B) t^-batch_transient, (1/N) t^-width_transient, N^-model."""


@dataclass(frozen=True)
class Crossover:
    """Where one term of the loss takes over from another while a network trains.

    Attributes:
        before, after: the terms.
        resource: "width" (N) or "batch" (B / eta).
        exponent: x in t ~ resource^x, up to a factor that does not depend on the resource.
    """

    before: Term
    after: Term
    resource: Literal["width", "batch"]
    exponent: float


@dataclass(frozen=True)
class Prediction:
    """Exponents r of mse ~ (resource)^-r, the other resources unlimited, unless said otherwise.

    A negative exponent means a term that grows.

    Attributes:
        alpha, beta: eigenvalue_k ~ k^-alpha, power above k ~ eigenvalue_k^beta.
        regime: "hard", "easy" or "super-easy".
        time_lazy: beta, of the flow time.
        time_rich: chi = beta max(1, 2 / (1 + beta)).
        model: alpha min(1, beta), of the width N.
        data: alpha min(2, beta), of the number P of training points, without label noise.
        batch_transient_lazy: 2 - 1/alpha; the term (eta / B) t^-r of one-pass SGD with batch B.
        batch_transient_rich: the same in the time of a rich network.
        width_transient_lazy: min(1, beta) - 1/alpha; the term (1/N) t^-r.
        width_transient_rich: the same in the time of a rich network.
        compute_lazy, compute_rich: r_C, of the compute C = N t at the best N; without batches it is
            alpha beta / (alpha beta + 1) on every task but a rich hard one.
        best_width_lazy, best_width_rich: n in N*(C) ~ C^n.
        best_time_lazy, best_time_rich: s in t*(C) ~ C^s, with n + s = 1.
        data_noisy: alpha beta / (alpha beta + 1), of P with label noise and early stopping.
        stop_time_lazy, stop_time_rich: s in (best time to stop) ~ P^s with label noise.
        lazy_to_rich: x in t_gamma ~ gamma^-x, when a hard task's curve leaves the lazy law for the
            rich one; None on other tasks, whose kernel settles: they keep their exponent.
        crossovers_lazy, crossovers_rich: which terms dominate as t grows at fixed N and B, in their
            order, and when each takes over. The last one ends at the width's plateau.
        kernel_growth: g in kernel scale ~ t^g of a rich network: (1 - beta) / (1 + beta) on hard
            tasks, else 0.
    """

    alpha: float
    beta: float
    regime: Regime
    time_lazy: float
    time_rich: float
    model: float
    data: float
    batch_transient_lazy: float
    batch_transient_rich: float
    width_transient_lazy: float
    width_transient_rich: float
    compute_lazy: float
    compute_rich: float
    best_width_lazy: float
    best_width_rich: float
    best_time_lazy: float
    best_time_rich: float
    data_noisy: float
    stop_time_lazy: float
    stop_time_rich: float
    lazy_to_rich: float | None
    crossovers_lazy: tuple[Crossover, ...]
    crossovers_rich: tuple[Crossover, ...]
    kernel_growth: float


def predict(alpha: float, beta: float, *, batches: bool = True) -> Prediction:
    """Predict every exponent from the capacity ``alpha`` and the source ``beta``.

    Args:
        alpha: of eigenvalue_k ~ k^-alpha.
        beta: of power above k ~ eigenvalue_k^beta.
        batches: learned by one-pass SGD, whose noise decides the compute optimum and the crossovers
            of super-easy tasks. False: by gradient flow or full batches, where such a task balances
            t^-beta against the width's transient, as an easy one does.

    Feature learning rescales time: a rich network's exponents in t are the lazy ones times
    2 / (1 + beta) on a hard task (beta < 1), the same otherwise; those in N and P do not change.

    **alpha < 1** does occur in spectra measured on finitely many points. The sum of k^-alpha then
    hangs on its last terms, not its first: the trace sits in the far tail, where the fit says
    nothing, and is finite because the tail ends. To a network of width N (or P points) that tail
    acts as a ridge trace / N, so exponents in N and P are those of alpha = 1, the width transient
    does not decay for beta >= 1, and the batch transient, which hangs on sum k^-2alpha, does not
    for alpha < 1/2. Exponents in time do not involve alpha and stand.

    Source: Bordelon, Atanasov & Pehlevan 2024 (arXiv 2409.17858) for time and compute, with two
    corrections found by simulation: the total loss of a width-N model stops at N^(-alpha min(1,
    beta)), since min(2, beta) is the ensemble's bias alone; and the width transient decays with
    min(1, beta) - 1/alpha, which for hard tasks is less than 1 - 1/alpha and may be negative.
    With label noise a model stopped at k learned modes has the variance sigma^2 k / P beside the
    bias k^(-alpha beta); their balance is data_noisy, its time that at which mode k is learned.
    The reading of alpha < 1 is derived here, from N = sum_k lambda_k / (lambda_k + kappa).

    Raises:
        ValueError: alpha or beta is not a positive finite number.
    """
    check_exponents(alpha, beta)
    place = regime(alpha, beta)
    faster = max(1.0, 2.0 / (1.0 + beta))
    # The capacity that a finite width or sample sees, see alpha < 1 above.
    seen = max(alpha, 1.0)
    batch = max(0.0, 2.0 - 1.0 / alpha)
    width = min(1.0, beta) - 1.0 / seen
    # Without the batches' term a super-easy task is balanced as an easy one.
    balance = "easy" if place == "super-easy" and not batches else place
    falls = batch if batches else math.inf
    lazy = _compute_optimum(balance, seen, beta, batch, beta)
    rich = _compute_optimum(balance, seen, beta, batch, beta * faster)
    return Prediction(
        alpha=alpha,
        beta=beta,
        regime=place,
        time_lazy=beta,
        time_rich=beta * faster,
        model=seen * min(1.0, beta),
        data=seen * min(2.0, beta),
        batch_transient_lazy=batch,
        batch_transient_rich=batch * faster,
        width_transient_lazy=width,
        width_transient_rich=width * faster,
        compute_lazy=lazy[0],
        compute_rich=rich[0],
        best_width_lazy=1.0 - lazy[1],
        best_width_rich=1.0 - rich[1],
        best_time_lazy=lazy[1],
        best_time_rich=rich[1],
        data_noisy=seen * beta / (seen * beta + 1.0),
        stop_time_lazy=seen / (seen * beta + 1.0),
        stop_time_rich=seen / (seen * beta + 1.0) / faster,
        lazy_to_rich=1.0 / (1.0 - beta) if place == "hard" else None,
        crossovers_lazy=_crossovers(balance, seen, beta, falls, 1.0),
        crossovers_rich=_crossovers(balance, seen, beta, falls, faster),
        kernel_growth=(1.0 - beta) / (1.0 + beta) if beta < 1.0 else 0.0,
    )


def _compute_optimum(
    place: Regime, alpha: float, beta: float, batch: float, time: float
) -> tuple[float, float]:
    """Exponents of the loss, and of the best time, in C = N t where two terms are equal.

    A falling term t^-a equals (1/N^m) t^-b at N = t^((a - b) / m).
    """
    if place == "hard":
        a, b, m = time, 0.0, alpha * beta
    elif place == "easy":
        a, b, m = beta, 1.0 - 1.0 / alpha, 1.0
    else:
        a, b, m = batch, 1.0 - 1.0 / alpha, 1.0
    width_per_time = (a - b) / m
    best_time = 1.0 / (1.0 + width_per_time)
    return a * best_time, best_time


def _crossovers(
    place: Regime, alpha: float, beta: float, batch: float, faster: float
) -> tuple[Crossover, ...]:
    """Order of the terms in time; `faster` multiplies every exponent of time.

    On a hard task the width transient meets the falling curve and the plateau in one point and
    never dominates; batches of easier tasks than super-easy change prefactors alone.
    """
    if place == "hard":
        return (Crossover("time", "model", "width", alpha / faster),)
    width = 1.0 - 1.0 / alpha
    last = Crossover("width transient", "model", "width", alpha)
    if width <= 0.0:  # alpha <= 1: the transient is the plateau
        if batch < beta:
            return _batches(beta, batch, alpha)[:1] + (
                (Crossover("batch transient", "model", "width", alpha / batch),) if batch else ()
            )
        return (Crossover("time", "model", "width", alpha / beta),)
    if place == "easy":
        return (Crossover("time", "width transient", "width", 1.0 / (beta - width)), last)
    return (*_batches(beta, batch, alpha), last)


def _batches(beta: float, batch: float, alpha: float) -> tuple[Crossover, ...]:
    """Of a super-easy task: (eta / B) t^-batch takes over, then (1/N) t^-(1 - 1/alpha)."""
    if beta <= batch:  # on the boundary both fall alike
        return (Crossover("time", "width transient", "width", 1.0),)
    return (
        Crossover("time", "batch transient", "batch", 1.0 / (beta - batch)),
        Crossover("batch transient", "width transient", "width", 1.0),
    )
