"""When to look at the kernel: log-spaced, and seldom enough to stay cheap."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from ntkscale.tracking.cost import snapshot_in_steps


def log_spaced(first: float, last: float, count: int) -> list[float]:
    """`count` numbers from `first` to `last`, both included, at equal ratios.

    Raises:
        ValueError: not 0 < first <= last, or fewer than one number.
    """
    if not 0 < first <= last or not math.isfinite(last):
        raise ValueError(
            f"log-spaced numbers need 0 < first <= last, not {first} and {last}; start above zero."
        )
    if count < 1:
        raise ValueError(f"cannot space {count} numbers; ask for at least one.")
    if count == 1:
        return [float(last)]
    ratio = math.log(last / first) / (count - 1)
    inner = [first * math.exp(i * ratio) for i in range(1, count - 1)]
    return [float(first), *inner, float(last)]


def log_steps(last: int, count: int) -> list[int]:
    """Step 0 and up to `count - 1` different log-spaced steps from 1 to `last`, in order."""
    if last < 1 or count < 2:
        return [0]
    # Early steps coincide after rounding: ask for more until there are enough, or all.
    wanted = min(count - 1, last)
    asked = wanted
    steps: set[int] = set()
    while len(steps) < wanted:
        steps = {round(t) for t in log_spaced(1, last, asked)}
        asked += 1 + asked // 8
    # Dropping inner ones evenly keeps first, last and the spacing.
    ordered = sorted(steps)
    if wanted == 1:
        return [0, last]
    kept = {ordered[round(i * (len(ordered) - 1) / (wanted - 1))] for i in range(wanted)}
    return [0, *sorted(kept)]


def default_steps(
    steps: int,
    *,
    batch: int,
    probe: int,
    outputs: int,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
) -> list[int]:
    """Log-spaced steps, step 0 and the last among them, whose snapshots cost under 5 % of a run.

    Arguments and cost model as in :func:`default_measurements`.
    """
    count = default_measurements(steps, batch, probe, outputs, model=model, inputs=inputs)
    return log_steps(steps, count)


def default_measurements(
    steps: int,
    batch: int,
    probe: int,
    outputs: int,
    *,
    model: nn.Module | None = None,
    inputs: Float[Tensor, "n ..."] | None = None,
) -> int:
    """Number of snapshots, two at least and 64 at most, that cost under 5 % of a training run.

    Counted, never timed, so that the same run takes the same snapshots everywhere. With a model and
    inputs its multiply-adds and activations are counted on one sample (`cost.snapshot_in_steps`).
    Without, a snapshot is put at 60 steps, its overhead beside those of a tiny network, and at as
    many training samples as backward passes (probe x outputs) times 1 + probe / 24, the second term
    being the product of the Jacobian with itself: right for small fully connected networks, several
    times too many for convolutions. `python benchmarks/tracker_cost.py` prints measured shares.

    Args:
        steps: optimiser steps of the run.
        batch: samples a step.
        probe: points of the probe set, n.
        outputs: outputs that are traced, C.
        model: what is trained, on the processor or a device, compiled or not.
        inputs: any of its inputs; the first is looked at.

    Raises:
        ValueError: a number below one.
    """
    for name, value in (("steps", steps), ("batch", batch), ("probe", probe), ("outputs", outputs)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if model is not None and inputs is not None:
        snapshot = snapshot_in_steps(model, inputs, batch=batch, probe=probe, outputs=outputs)
    else:
        snapshot = FIXED_STEPS + probe * outputs * (1 + probe / PAIRS) / batch
    return max(2, min(MOST, int(SHARE * steps / (RESERVE * snapshot))))


SHARE = 0.05
"""Share of a training run that the default schedule may cost."""

RESERVE = 2
"""Factor by which a snapshot may turn out dearer than counted."""

FIXED_STEPS = 60
"""Steps of a small network that the overhead of one snapshot is worth."""

PAIRS = 24
"""Probe points whose pairwise products cost as much as one backward pass for each."""

MOST = 64
"""Snapshots beyond which a log-spaced curve shows nothing new."""
