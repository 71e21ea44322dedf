"""Loss curves read across: the loss at a time, the time at a loss, the time of a plateau."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.scaling import fit_power_law


def at_time(time: float, times: Float[ndarray, "T"], values: Float[ndarray, "T"]) -> float:
    """A positive curve at one time, by log-log interpolation; nan outside its record."""
    if not times[0] <= time * (1 + 1e-9) or not time <= times[-1] * (1 + 1e-9):
        return float("nan")
    return float(np.exp(np.interp(np.log(time), np.log(times), np.log(values))))


def crossing_times(
    times: Float[ndarray, "T"], mse: Float[ndarray, "T"], levels: Float[ndarray, "S"]
) -> Float[ndarray, "S"] | None:
    """First times at which a curve is down to each level, by log-log interpolation.

    None where the curve never gets down to the last level, or starts below the first.
    """
    # Full-batch flow falls monotonically but for rounding; the running minimum removes that.
    sound = int(np.argmin(np.isfinite(mse))) if not np.isfinite(mse).all() else len(mse)
    times, falling = times[:sound], np.minimum.accumulate(mse[:sound])
    keep = times > 0
    falling, times = falling[keep], times[keep]
    # The run stops at the last level to within a step: let it count as reached.
    if not len(times) or falling[-1] > levels[-1] * 1.01 or falling[0] < levels[0]:
        return None
    return np.exp(np.interp(-np.log(levels), -np.log(falling), np.log(times)))


def levels_off(times: Float[ndarray, "T"], mse: Float[ndarray, "T"]) -> float:
    """Flow time at which a falling curve is half plateau; nan where none is seen in its record.

    The plateau is the offset of a fitted law, kept only where the data support one.
    """
    sound = np.isfinite(mse) & (mse > 0) & (times > 0)
    if sound.sum() < 5:
        return float("nan")
    fit = fit_power_law(times[sound], mse[sound], offset=True)
    if not fit.is_power_law or fit.offset <= 0 or fit.exponent <= 0:
        return float("nan")
    half = float((fit.prefactor / fit.offset) ** (1 / fit.exponent))
    return half if half <= times[sound][-1] else float("nan")
