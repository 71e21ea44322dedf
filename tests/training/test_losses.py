import pytest
import torch
from torch.nn import functional as F

from ntkscale.training.losses import LOSSES


@pytest.mark.parametrize("members", [(), (3,)])
def test_values_and_gradients_are_those_of_autograd(members):
    torch.manual_seed(3)
    outputs = torch.randn(*members, 7, 4, dtype=torch.float64, requires_grad=True)
    targets, labels = torch.randn(7, 4, dtype=torch.float64), torch.randint(4, (7,))

    value = 0.5 * (targets - outputs).pow(2).sum()
    assert torch.allclose(LOSSES["mse"].value(outputs, targets).sum(), value)
    (expected,) = torch.autograd.grad(value, outputs)
    assert torch.allclose(LOSSES["mse"].gradient(outputs.detach(), targets), expected)

    flat = outputs.reshape(-1, 4)
    value = F.cross_entropy(flat, labels.repeat(max(1, *members, 1)), reduction="sum")
    assert torch.allclose(LOSSES["cross-entropy"].value(outputs, labels).sum(), value)
    (expected,) = torch.autograd.grad(value, outputs)
    assert torch.allclose(LOSSES["cross-entropy"].gradient(outputs.detach(), labels), expected)


def test_curvature_bounds_the_hessian_and_is_reached():
    bound = LOSSES["cross-entropy"].curvature
    largest = 0.0
    for logits in (*(torch.randn(200, 5).double() * 4).unbind(), torch.tensor([9.0, 9, 0, 0, 0])):
        hessian = torch.autograd.functional.hessian(
            lambda f: F.cross_entropy(f[None], torch.tensor([1])), logits.double()
        )
        largest = max(largest, float(torch.linalg.eigvalsh(torch.as_tensor(hessian))[-1]))
    assert 0.99 * bound < largest <= bound
