"""Finite width without sampling: the spectrum that a random A_0 shows on average, at any N.

Flows at width N depend on A_0 through two measures alone, the eigenvalues s of S = A_0 Lambda A_0^T
/ N and the weight b^2 that the target has on them (`narrow.at_width` is one draw of both). Sums
over them do not fluctuate as N grows, and their means follow from one complex equation,

    z = -kappa + 1/N sum_k lambda_k kappa / (lambda_k + kappa)
    1/N sum_j 1 / (s_j - z) = 1 / kappa
    sum_j b_j^2 / (s_j - z) = sum_k power_k lambda_k / (lambda_k + kappa)

whose imaginary parts just above the real axis are the densities. There, at an angle a, an
eigenvalue looks like a peak in log s with tails a exp(-|log s|). Far below a strong mode they would
be all there is, and its loss would end as a / t. At the angle 2 a they are twice as high: the
densities taken are those at a minus half of those at 2 a. They are positive, and what is left of
the tails is of order a^3 exp(-2 |log s|).

At z = 0 the equation is that of `plateau`. (Marchenko & Pastur 1967; for the model arXiv 2402.01092
at gamma = 0. That the rich flow needs nothing more is derived in this room's README.)
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from numpy import ndarray

from ntkscale.theory.scaling_model.plateau import plateau
from ntkscale.theory.scaling_model.spectrum import Spectrum

ANGLE = 4e-3
"""Of z above the real axis: the relative resolution of the densities, in s. Twice that as well."""
ANGLES = (2 * ANGLE, ANGLE)
POINTS = 4
"""Points of s that make one row."""
_TURN = 0.6  # factor from angle to angle on the way from the negative axis
_BELOW, _ABOVE = 1e-3, 4.0  # where s begins and ends, over the ridge and the largest eigenvalue


def mean_at_width(spectrum: Spectrum, width: int) -> Spectrum:
    """The spectrum that stands for width N on average over A_0, for `flow` and `lazy_sgd`.

    Against means of draws: see the tests and this room's README. Errors are of relative order 1/N,
    and of the resolution, half a per cent.

    Args:
        spectrum: of one output; rows may stand for many modes, so that N can be large.
        width: N, below the number of modes.

    Raises:
        ValueError: several outputs, a width that is not positive, or no fewer modes than N.
        ArithmeticError: the equation was not solved; fewer rows a decade help.

    Cost: O(rows x points), points some 700 a decade of s; a second at N = 16,384, and less again
    for another target on the same eigenvalues.
    """
    if spectrum.target.shape[1] != 1:
        raise ValueError("mean_at_width needs a spectrum of one output; give one at a time.")
    limit = plateau(spectrum, width=width)
    if not limit.ridge > 0:
        raise ValueError(
            f"width = {width:,} resolves all {spectrum.num_modes:,.0f} modes; take more modes."
        )
    lam, count = spectrum.eigenvalues, spectrum.count
    low, high = np.log(limit.ridge * _BELOW), np.log(_ABOVE * lam[0] + spectrum.tail_trace / width)
    per_row = ANGLE / 1.2
    s = np.exp(np.arange(high, low, -per_row))
    # Tasks and gammas share their kernel, and kappa knows of nothing else.
    kappa = _kept(lam.tobytes(), count.tobytes(), spectrum.tail_trace, width, s.tobytes())
    power, modes = np.zeros((2, len(s)))
    for one, own in zip(ANGLES, kappa, strict=True):
        # The first tails are sin(angle) high and have to cancel.
        share = 1.0 if one == ANGLE else -np.sin(ANGLE) / np.sin(one)
        for part in _parts(len(s), len(lam)):
            weight = (spectrum.power * lam / (lam + own[part, None])).sum(axis=1)
            power[part] += share * np.imag(weight)
        # s rho(s), as it decays on both sides of the spectrum also where it is smeared.
        modes += share * np.imag(s * np.exp(1j * one) / own)
    power, modes = np.maximum(power, 0.0), np.maximum(modes, 0.0)
    # Both sums are known.
    power *= (spectrum.total_power - limit.mse) / power.sum()
    modes *= width / modes.sum()
    rows = len(s) // POINTS
    power, modes, at = (
        one[: rows * POINTS].reshape(rows, POINTS) for one in (power, modes, s * power)
    )
    power, modes, at = power.sum(axis=1), modes.sum(axis=1), at.sum(axis=1)
    kept = (power > 0) & (modes > 0)
    power, modes, at = power[kept], modes[kept], at[kept] / power[kept]
    target = np.sqrt(power / (modes * at))
    return Spectrum(at, target[:, None], modes, tail_power=limit.mse)


def single_modes(spectrum: Spectrum, count: int) -> Spectrum:
    """Rows of single modes with the counting function and the power of `spectrum`, for `simulate`.

    Of `mean_at_width` it makes a network of width N that is typical, and not one of many draws:
    what is left to chance are batches. Its curves are those of the rows to 1 / N (3 % at N = 64
    where learning starts, below .5 % later, or at 512).

    Args:
        spectrum: of one output; its rows stand for any number of modes.
        count: modes, as many as the rows stand for together; N for `mean_at_width`.

    Cost: O(rows + count).

    Raises:
        ValueError: several outputs, or a count that is not that of the rows.
    """
    if spectrum.target.shape[1] != 1:
        raise ValueError("single_modes needs a spectrum of one output; give one at a time.")
    if not np.isclose(count, spectrum.num_modes, rtol=1e-6):
        raise ValueError(f"count = {count} but the rows stand for {spectrum.num_modes:g} modes.")
    edges = np.arange(count + 1.0)
    known = np.append(0.0, np.cumsum(spectrum.count)) * (count / spectrum.num_modes)

    def share(of_row: Float[ndarray, "R"]) -> Float[ndarray, "M"]:
        return np.diff(np.interp(edges, known, np.append(0.0, np.cumsum(of_row))))

    eigenvalues = share(spectrum.count * spectrum.eigenvalues)
    target = np.sqrt(share(spectrum.power) / eigenvalues)
    return Spectrum(
        eigenvalues,
        target[:, None],
        np.ones(count),
        tail_power=spectrum.tail_power,
        tail_trace=spectrum.tail_trace,
    )


@lru_cache(maxsize=32)
def _kept(lam: bytes, count: bytes, tail: float, width: int, s: bytes) -> Complex[ndarray, "2 G"]:
    return _solve(np.frombuffer(lam), np.frombuffer(count), tail, width, np.frombuffer(s))


def _solve(
    lam: Float[ndarray, "M"], count: Float[ndarray, "M"], tail: float, width: int, s: ndarray
) -> Complex[ndarray, "2 G"]:
    """kappa at z = s exp(i ANGLES), followed from the negative axis, where it is real."""
    found = np.empty((len(ANGLES), len(s)), dtype=complex)
    for part in _parts(len(s), len(lam)):
        own = s[part]

        def improve(kappa: ndarray, z: ndarray) -> ndarray:
            share = lam / (lam + kappa[:, None])
            miss = -kappa + (kappa * (share @ count) + tail) / width - z
            return kappa - miss / (-1 + np.square(share) @ count / width)

        # On the negative axis kappa is real and below this, and the miss is concave: Newton falls
        # to it without passing it.
        kappa = (own + (float(count @ lam) + tail) / width).astype(complex)
        for _ in range(60):
            before, kappa = kappa, improve(kappa, -own.astype(complex))
            if (np.abs(kappa - before) <= 1e-10 * np.abs(kappa)).all():
                break
        angle = np.pi
        for row, last in enumerate(ANGLES):
            while angle > last:
                angle = max(angle * _TURN, last)
                z = own * np.exp(1j * angle)
                for _ in range(2):
                    kappa = improve(kappa, z)
            z = own * np.exp(1j * last)
            for _ in range(4):
                kappa = improve(kappa, z)
            moved = np.abs(improve(kappa, z) - kappa)
            if not (moved <= 1e-8 * np.abs(kappa)).all() or (np.imag(kappa) > 0).any():
                raise ArithmeticError(
                    "the spectrum at finite width was not found; use fewer modes_per_decade."
                )
            found[row, part] = kappa
    return found


def _parts(points: int, rows: int) -> list[slice]:
    """Stretches of points that fit into some 60 MiB each."""
    step = max(1, 4_000_000 // rows)
    return [slice(i, i + step) for i in range(0, points, step)]
