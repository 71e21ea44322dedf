import math

import pytest

from ntkscale.training import Optimisation


def test_schedules_take_their_closed_form_values():
    constant = Optimisation(steps=100, learning_rate=0.3, warmup=10)
    assert constant.learning_rate_at(0) == pytest.approx(0.03)
    assert constant.learning_rate_at(9) == constant.learning_rate_at(99) == 0.3
    linear = Optimisation(steps=110, learning_rate=0.3, warmup=10, schedule="linear")
    assert linear.learning_rate_at(10) == 0.3
    assert linear.learning_rate_at(60) == pytest.approx(0.15)
    assert linear.learning_rate_at(109) == pytest.approx(0.003)
    cosine = Optimisation(steps=60, learning_rate=0.3, schedule="cosine")
    for step in (0, 7, 30, 59):
        expected = 0.3 * math.cos(math.pi * step / 120) ** 2
        assert cosine.learning_rate_at(step) == pytest.approx(expected)


def test_flow_time_of_a_step():
    assert Optimisation(method="momentum", momentum=0.8).flow_time(0.1) == pytest.approx(0.5)
    assert Optimisation(method="sgd", momentum=0.8).flow_time(0.1) == 0.1
    assert not Optimisation(method="adam").has_flow_time


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "rmsprop"}, "method 'rmsprop' is unknown"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"horizon": math.inf}, "horizon is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"steps": 10, "warmup": 10}, "warmup is 10"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"step_fraction": 2.0}, "step_fraction is 2.0"),
        ({"method": "flow", "batch_size": 8}, "gradient flow has no batch_size"),
        ({"method": "flow", "augmentation": "flip"}, "gradient flow has no augmentation"),
        ({"method": "flow", "schedule": "cosine"}, "gradient flow has no schedule"),
        ({"method": "adam", "horizon": 3.0}, "Adam has no flow time"),
    ],
)
def test_refuses_what_makes_no_sense(options, says):
    with pytest.raises(ValueError, match=says):
        Optimisation(**options)
