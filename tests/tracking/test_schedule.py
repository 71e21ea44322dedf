"""Schedules: spacing, ends, and their counted cost."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from ntkscale.tracking import KernelTracker, cost, default_measurements, default_steps, log_spaced


def test_log_spaced_has_equal_ratios_and_exact_ends():
    first, last, count = 0.037, 912.5, int(torch.randint(3, 40, ()))
    times = log_spaced(first, last, count)
    assert len(times) == count and times[0] == first and times[-1] == last
    ratios = [math.log(b / a) for a, b in itertools.pairwise(times)]
    assert ratios == pytest.approx([math.log(last / first) / (count - 1)] * (count - 1), rel=1e-9)
    assert log_spaced(1, 5, 1) == [5.0] and log_spaced(1, 5, 2) == [1.0, 5.0]


@pytest.mark.parametrize("bad", [(0, 1, 3), (2, 1, 3), (1, 2, 0), (1, math.inf, 3), (-1, 1, 2)])
def test_log_spaced_refuses(bad):
    with pytest.raises(ValueError):
        log_spaced(*bad)


@pytest.mark.parametrize("steps", [1, 2, 5, 300, 5_000, 1_000_000])
@pytest.mark.parametrize("batch", [1, 128])
def test_default_schedule(steps, batch):
    for probe, outputs in ((1, 1), (64, 10), (256, 1)):
        count = default_measurements(steps, batch, probe, outputs)
        chosen = default_steps(steps, batch=batch, probe=probe, outputs=outputs)
        assert chosen[0] == 0 and chosen[-1] == steps
        assert chosen == sorted(set(chosen))
        assert len(chosen) == min(count, steps + 1)
        # The counted cost, at least a backward pass for each output of each point, is within 5 %.
        assert count == 2 or count * probe * outputs <= 0.05 * steps * batch


@pytest.mark.parametrize("bad", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)])
def test_default_measurements_refuses(bad):
    with pytest.raises(ValueError, match="at least 1"):
        default_measurements(*bad)


def test_due():
    model = nn.Linear(2, 1)
    tracker = KernelTracker(model, torch.randn(3, 2))
    due = [step for step in range(10_001) if tracker.due(step)]
    assert due[:4] == [0, 1, 2, 3] and {10, 100, 1000, 10_000} <= set(due)
    late = [b / a for a, b in itertools.pairwise(due) if a > 1000]
    assert late == pytest.approx([10 ** (1 / 8)] * len(late), rel=2e-3)
    chosen = KernelTracker(model, torch.randn(3, 2), measure_at=[0, 7])
    rows = [chosen.step(step, float(step)) for step in range(10)]
    assert [i for i, row in enumerate(rows) if row] == [0, 7]
    assert [row["step"] for row in chosen.history] == [0, 7]


def test_counted_work_is_exact_and_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3))
    x = torch.randn(4, 5)
    state = torch.get_rng_state()
    multiply_adds, kept = cost._work(model, x[:1])
    assert multiply_adds == 5 * 7 + 7 * 3
    # The input and the ReLU's output; parameters are not counted.
    assert kept == 4 * (5 + 7)
    assert all(m.training for m in model.modules()) and torch.equal(state, torch.get_rng_state())


def test_snapshots_of_convolutions_are_cheap_in_their_steps():
    """One weight is used at every pixel while training, and once in the kernel's product."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"batch": 32, "probe": 16, "outputs": 2}
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten())
    dense = nn.Sequential(nn.Linear(26, 26), nn.ReLU(), nn.Linear(26, 2))
    large = cost.snapshot_in_steps(conv, torch.randn(1, 1, 40, 40), **sizes)
    assert large < cost.snapshot_in_steps(dense, torch.randn(1, 26), **sizes)
    many = default_measurements(2000, **sizes, model=conv, inputs=torch.randn(1, 1, 40, 40))
    assert many > default_measurements(2000, **sizes)
    assert many * large <= 0.05 * 2000
