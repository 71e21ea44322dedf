import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import erf
from scipy.stats import norm

from ntkscale.networks import activation

PLAIN = {
    "relu": lambda h: max(h, 0.0),
    "relu2": lambda h: max(h, 0.0) ** 2,
    "relu3": lambda h: max(h, 0.0) ** 3,
    "relu5": lambda h: max(h, 0.0) ** 5,
    "tanh": math.tanh,
    "erf": lambda h: float(erf(h)),
    "gelu": lambda h: h * float(norm.cdf(h)),
    "linear": lambda h: h,
}


@pytest.mark.parametrize("name", PLAIN)
def test_value_and_second_moment_against_quadrature(name: str) -> None:
    phi = activation(name)
    h = torch.randn(50, dtype=torch.float64) * 3
    expected = torch.tensor([PLAIN[name](v) for v in h.tolist()], dtype=torch.float64)
    torch.testing.assert_close(phi(h), expected)

    def integrand(g: float) -> float:
        return PLAIN[name](g) ** 2 * math.exp(-g * g / 2) / math.sqrt(2 * math.pi)

    moment = quad(integrand, -14, 0, epsabs=1e-12)[0] + quad(integrand, 0, 14, epsabs=1e-12)[0]
    assert phi.second_moment == pytest.approx(moment, rel=1e-9)
    assert phi.scale**2 * moment == pytest.approx(1.0, rel=1e-9)


def test_power_of_relu() -> None:
    assert [activation(n).power for n in ("relu", "relu3", "tanh")] == [1, 3, None]


@pytest.mark.parametrize("name", ["relu0", "relu10", "Relu", "swish", ""])
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="choose relu, relu2"):
        activation(name)
