"""Labels against their definition, sample by sample."""

import pytest
import torch

from ntkscale.tasks import two_xor


@pytest.mark.parametrize("seed", [0, 5])
def test_labels_are_two_exclusive_ors(seed: int) -> None:
    task = two_xor(60, test_size=40, dimension=7, seed=seed, dtype=torch.float64)
    assert task.outputs == 4 and task.test_inputs is not None
    assert task.labels is not None and task.test_labels is not None
    for inputs, labels in ((task.inputs, task.labels), (task.test_inputs, task.test_labels)):
        assert bool((inputs.abs() == 1).all())
        for x, label in zip(inputs.tolist(), labels.tolist(), strict=True):
            assert label == int(x[0] * x[1] > 0) + 2 * int(x[2] * x[3] > 0)
    counts = two_xor(4000, seed=seed).labels
    assert counts is not None
    assert bool((counts.bincount(minlength=4) > 850).all())


def test_no_test_set_and_refusals() -> None:
    assert two_xor(8, test_size=0).test_inputs is None
    assert two_xor(8, loss="mse").loss == "mse"
    with pytest.raises(ValueError, match="4 dimensions"):
        two_xor(8, dimension=3)
    with pytest.raises(ValueError, match="a sample"):
        two_xor(0)
