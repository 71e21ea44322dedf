"""A killed Monte-Carlo solution goes on to the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ntkscale.theory.dmft import Solution, solve, solve_two_layer


class Killed(Exception):
    pass


def deep(**options: Any) -> Solution:
    return solve(depth=2, activation="tanh", samples=512, **options)


def two_layer(**options: Any) -> Solution:
    return solve_two_layer(activation="relu", samples=512, **options)


def arguments(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(3, 4, generator=generator, dtype=torch.float64),
        "y": torch.randn(3, generator=generator, dtype=torch.float64),
        "gamma0": 1.0,
        "learning_rate": 0.2,
        "steps": 5,
        "fields": 11,
        "seed": seed,
    }


def kill_at(share: float) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= share * total:
            raise Killed

    return progress


@pytest.mark.parametrize("solver", [deep, two_layer])
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_killed_solution_goes_on_to_the_same_bits(
    solver: Callable[..., Solution], share: float, tmp_path: Path
) -> None:
    given = arguments(seed=int(10 * share))
    whole = solver(**given)
    path = tmp_path / "folder" / "unfinished.safetensors"
    with pytest.raises(Killed):
        solver(**given, checkpoint=path, progress=kill_at(share))
    with pytest.raises(Killed):
        solver(**given, checkpoint=path, progress=kill_at(share + 0.2))
    steps: list[int] = []
    resumed = solver(**given, checkpoint=path, progress=lambda done, _: steps.append(done))
    assert steps[0] > share * 8 * 6 - 6  # finished batches are not solved again
    assert not path.exists()
    assert list(path.parent.iterdir()) == []
    pairs = [
        (whole.outputs, resumed.outputs),
        (whole.ntk, resumed.ntk),
        *zip(whole.phi, resumed.phi, strict=True),
        *zip(whole.g, resumed.g, strict=True),
        *zip(whole.forward_responses, resumed.forward_responses, strict=True),
        *zip(whole.backward_responses, resumed.backward_responses, strict=True),
        *zip(whole.standard_error.values(), resumed.standard_error.values(), strict=True),
    ]
    assert whole.fields is not None and resumed.fields is not None
    pairs += zip(whole.fields.h + whole.fields.z, resumed.fields.h + resumed.fields.z, strict=True)
    for one, other in pairs:
        assert torch.equal(one, other)


def test_a_checkpoint_of_other_arguments_or_damaged_is_refused(tmp_path: Path) -> None:
    given = arguments(seed=3)
    path = tmp_path / "unfinished.safetensors"
    with pytest.raises(Killed):
        deep(**given, checkpoint=path, progress=kill_at(0.5))
    for change in ({"gamma0": 0.9}, {"seed": 4}, {"fields": 3}, {"y": given["y"] + 1e-9}):
        with pytest.raises(ValueError, match="of a solution with other arguments"):
            deep(**given | change, checkpoint=path)
    with pytest.raises(ValueError, match="of a solution with other arguments"):
        two_layer(**given, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        deep(**given, checkpoint=path)
