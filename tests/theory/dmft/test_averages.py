"""Averages over batches, also where some of them end early."""

import pytest
import torch
from torch import Tensor

from ntkscale.theory.dmft import pose, solve, solve_two_layer
from ntkscale.theory.dmft.averages import BATCHES, Averages


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("rank", [4, 40])  # fewer and more columns than a kernel has rows
def test_a_batch_that_ends_early_cuts_the_stated_errors_too(rank: int) -> None:
    times, points = 6, 3
    problem = pose(
        drawn(points, 4), drawn(points), depth=1, gamma0=1.0, learning_rate=0.1, steps=times - 1
    )
    averages, factors, outputs = Averages(problem), [], []
    last = int(torch.randint(2, 5, ()))
    for batch in range(BATCHES):
        # Each later batch may reach as far as those before; here two end before their time.
        reached = (6, 6, 5, 5, 5, last, last, last)[batch]
        factors.append([drawn(reached * points, rank) for _ in range(2)])
        outputs.append(drawn(reached, points, 1))
        averages.add(outputs[-1], factors[-1][:1], factors[-1][1:])
    found = averages.solution(samples=80, seconds=0.0, nbytes=0, bias=0.0, why="stopped")
    assert len(found.times) == last and not found.converged
    for index, (kernel, name) in enumerate(((found.phi[0], "phi"), (found.g[0], "g"))):
        cut = [pair[index][: last * points] for pair in factors]
        kernels = torch.stack([factor @ factor.T for factor in cut])
        mean = kernels.mean(0)
        torch.testing.assert_close(kernel.reshape(mean.shape), mean)
        error = kernels.var(0).sum().sqrt() / BATCHES**0.5 / mean.norm()
        torch.testing.assert_close(found.standard_error[name][0], error)
        slices = kernels.view(BATCHES, last, points, last, points).diagonal(dim1=1, dim2=3)
        spread = slices.var(0).sum((0, 1)).sqrt() / BATCHES**0.5
        spread = spread / slices.mean(0).square().sum((0, 1)).sqrt()
        torch.testing.assert_close(found.standard_error[f"{name}_at"][0], spread)
    mean = torch.stack([run[:last] for run in outputs]).mean(0)
    torch.testing.assert_close(found.outputs, mean[..., 0])


@pytest.mark.parametrize("depth", [1, 2])
def test_samples_that_are_no_multiple_of_the_batches(depth: int) -> None:
    x, y = drawn(2, 3), drawn(2)
    options = {"gamma0": 1.0, "learning_rate": 0.1, "steps": 3, "activation": "tanh"}

    def call(samples: float, fields: int) -> None:
        if depth == 1:
            found = solve_two_layer(x, y, samples=samples, fields=fields, **options)  # pyright: ignore[reportArgumentType]
        else:
            found = solve(x, y, depth=2, samples=samples, fields=fields, **options)  # pyright: ignore[reportArgumentType]
        assert found.fields is not None and found.cost.samples == 1000
        assert found.fields.h[0].shape == (4, 2, fields)

    call(1001, 1000)
    call(1.001e3, 13)
    with pytest.raises(ValueError, match="fields must be between 0 and"):
        call(1001, 1001)
    with pytest.raises(ValueError, match="fields must be a whole number"):
        call(1001, -1)
    with pytest.raises(ValueError, match="samples must be a whole number"):
        call(1000.5, 1)
    with pytest.raises(ValueError, match="all inputs are zero"):
        solve_two_layer(0 * x, y, **options)
    with pytest.raises(ValueError, match="memory is"):
        solve_two_layer(x, y, memory=1000, **options)
