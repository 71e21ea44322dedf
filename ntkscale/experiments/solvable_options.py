"""What both commands on the solvable model refuse before they begin."""

import math

from ntkscale.theory import scaling_model


def require_seeds(seeds: tuple[int, ...]) -> None:
    """Refuse what numpy takes for no seed."""
    if min(seeds) < 0:
        raise ValueError(f"--seed {min(seeds)} must be 0 or above.")


def require_capacity(alpha: float) -> None:
    """Refuse a power-law spectrum without a trace."""
    if not 1 < alpha < math.inf:
        raise ValueError(f"--alpha {alpha} must be above 1 and finite: else the trace is not.")


def require_stable(alpha: float, learning_rate: float, batch_size: int) -> None:
    """Refuse one-pass SGD whose second moments grow from its first step on."""
    spectrum = scaling_model.power_law(alpha, 1.0, num_modes=10_000, modes_per_decade=20)
    try:
        scaling_model.lazy_sgd(spectrum, [0], learning_rate=learning_rate, batch_size=batch_size)
    except ValueError as error:
        said = str(error).replace("learning_rate", "--learning-rate", 1)
        raise ValueError(f"{said} (--batch-size {batch_size})") from None


def require_rates(gamma: tuple[float, ...]) -> None:
    """Refuse feature-learning rates that are none."""
    for one in gamma:
        if not 0 <= one < math.inf:
            raise ValueError(f"--gamma {one} must be 0 (lazy) or above, and finite.")
