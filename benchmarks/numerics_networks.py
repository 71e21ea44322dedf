"""The error budget's quantities that are measured on networks."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.numerics_quantity import Quantity, Scale, Setting
from ntkscale import landscape, ntk, robustness, scaling
from ntkscale.tasks import Task
from ntkscale.training import lazy_flow, linearised_flow

Numbers = Mapping[str, Any]

N, INPUTS, OUTPUTS = 192, 64, 4
TIMES = (0.0, 1.0, 10.0, 100.0)
MEASURES = ("distance", "velocity", "alignment", "effective rank", "trace share")


def mlp(setting: Setting, seed: int = 0, moved: float = 0.0) -> nn.Sequential:
    """64-256-256-4 with ReLU; `moved` away from it by noise, as training moves it."""
    torch.manual_seed(seed)
    layers = [nn.Linear(INPUTS, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(256, OUTPUTS))
    with torch.no_grad():
        for p in net.parameters():
            p += moved * p.std() * torch.randn(p.shape)
    return net.to(device=setting.device, dtype=setting.dtype).eval()


def cnn(setting: Setting) -> nn.Sequential:
    """3-16-32 on 12 x 12."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(32, OUTPUTS))
    return net.to(device=setting.device, dtype=setting.dtype).eval()


def drawn(setting: Setting, *shape: int, seed: int = 2) -> Tensor:
    """Normal numbers of float32."""
    return setting.put(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def _gram(setting: Setting, output: Any) -> Numbers:
    return {
        "mlp": ntk.gram(
            mlp(setting), drawn(setting, N, INPUTS), output=output, memory=setting.memory
        ),
        "cnn": ntk.gram(
            cnn(setting), drawn(setting, 24, 3, 12, 12), output=output, memory=setting.memory
        ),
    }


def _by_parameter(setting: Setting) -> Numbers:
    x = drawn(setting, N, INPUTS)
    return ntk.gram_by_parameter(mlp(setting), x, memory=setting.memory)


def _operator(setting: Setting) -> Numbers:
    operator = ntk.operator(mlp(setting), drawn(setting, N, INPUTS), memory=setting.memory)
    return {"product": operator @ drawn(setting, N, 3, seed=3), "diagonal": operator.diagonal()}


def _eigenvalues(setting: Setting) -> Numbers:
    operator = ntk.operator(mlp(setting), drawn(setting, N, INPUTS), memory=setting.memory)
    return {"values": operator.top_eigenvalues(20, tolerance=1e-5).values}


def _estimates(setting: Setting) -> Numbers:
    operator = ntk.operator(mlp(setting), drawn(setting, N, INPUTS), memory=setting.memory)
    density = operator.density(steps=24)
    return {"trace": operator.trace().value, "moment": density.moment(2).value}


def _measures(setting: Setting) -> Numbers:
    x = drawn(setting, N, INPUTS)
    first, second = (
        ntk.gram(mlp(setting, moved=moved), x, memory=setting.memory) for moved in (0.0, 0.05)
    )
    distance = ntk.kernel_distance(first, second)
    values = (
        distance,
        distance / 0.1,
        ntk.alignment(second, drawn(setting, N, OUTPUTS)),
        ntk.effective_rank(second),
        ntk.trace_share(second, 20),
    )
    return dict(zip(MEASURES, map(torch.as_tensor, values), strict=True))


def _source_capacity(setting: Setting) -> Numbers:
    kernel = ntk.gram(mlp(setting), drawn(setting, N, INPUTS), memory=setting.memory)
    values, vectors = ntk.eigensystem(kernel / N)
    power = ntk.target_power(vectors, drawn(setting, N, 1))
    found = scaling.source_capacity(values.cpu(), power.cpu(), tail=0.01)
    ends = (*found.alpha_interval, *found.beta_interval)
    return {"exponents": [found.alpha, found.beta], "intervals": ends}


def _power_law(setting: Setting) -> Numbers:
    x = setting.put(torch.logspace(0, 3, 80))
    noise = torch.randn(80, generator=torch.Generator().manual_seed(4))
    y = setting.put((2 * x.cpu() ** -0.7 * torch.exp(0.03 * noise.to(x.dtype))).float())
    found = scaling.fit_power_law(x.cpu(), y.cpu(), window=(float(x[0]), float(x[-1])))
    return {"law": [found.exponent, found.prefactor, *found.interval]}


def _lazy_flow(setting: Setting) -> Numbers:
    kernel = ntk.gram(mlp(setting), drawn(setting, N, INPUTS), memory=setting.memory)
    return {"mse": lazy_flow(kernel, drawn(setting, N, 1), TIMES).mse}


def _linearised(setting: Setting) -> Numbers:
    x, y = drawn(setting, 48, INPUTS), drawn(setting, 48, OUTPUTS, seed=3)
    tested = drawn(setting, 8, INPUTS, seed=4)
    task = Task("random", x, y, "mse", test_inputs=tested, test_targets=y[:8])
    found = linearised_flow(mlp(setting), task, TIMES, memory=setting.memory)
    assert found.test_mse is not None
    return {"mse": found.mse, "test mse": found.test_mse}


def _regression(setting: Setting) -> Numbers:
    x, tested = drawn(setting, N, INPUTS), drawn(setting, 32, INPUTS, seed=3)
    net = mlp(setting)
    labels = torch.arange(N) % OUTPUTS
    train = ntk.gram(net, x, memory=setting.memory)
    cross = ntk.gram(net, tested, x, memory=setting.memory)
    found = landscape.kernel_regression(train, labels, cross, classes=OUTPUTS, ridge=1e-3)
    return {"outputs": found}


def _landscape(setting: Setting) -> Numbers:
    x = drawn(setting, 500, INPUTS)
    ends = [mlp(setting, seed) for seed in (0, 5)]
    labels = torch.arange(500, device=setting.device) % OUTPUTS
    start, end = (net.state_dict() for net in ends)
    measure = partial(F.cross_entropy, reduction="none")
    barrier = landscape.error_barrier(
        ends[0], start, end, {"all": (x, labels)}, points=5, measure=measure
    )
    outputs = [landscape.outputs_at(ends[0], weights, x) for weights in (start, end)]
    return {
        "barrier": barrier["all"].barrier,
        "distance": landscape.function_distance(outputs[0], outputs[1]),
    }


def attacked(setting: Setting, seed: int = 0, batch: int | None = None) -> dict[str, float]:
    """Robust accuracies of a network on the classes that it chooses itself."""
    net = mlp(setting)
    x = setting.put(torch.rand(200, INPUTS, generator=torch.Generator().manual_seed(6)))
    labels = landscape.chosen_class(net(x).detach())
    threat = robustness.Threat(0.03)
    attacks = {
        "fgsm": partial(robustness.fgsm, threat=threat),
        "pgd": partial(robustness.pgd, threat=threat),
        "apgd": partial(robustness.apgd, threat=threat, steps=30, seed=seed),
    }
    return {
        name: robustness.robust_accuracy(net, x, labels, attack, batch_size=batch).robust
        for name, attack in attacks.items()
    }


Bounds = tuple[float | None, float | None, float, float | None]


def _quantity(name: str, compute: Any, bounds: Bounds, scale: Scale = "largest") -> Quantity:
    return Quantity(name, compute, scale, *bounds)


ATTACKED = (0.01, None, 0.01, 0.01)
"""Two of 200 samples: those that are within rounding of a border."""

KERNEL = (2e-6, 2e-6, 2e-6, 5e-6)
"""Single precision, of the largest entry: float32, memory, threads, GPU."""

QUANTITIES = [
    *(
        _quantity(f"ntk.gram, {output}", partial(_gram, output=output), KERNEL)
        for output in ("trace", "diagonal", "full")
    ),
    _quantity("ntk.gram_by_parameter", _by_parameter, KERNEL),
    _quantity("operator: products, diagonal", _operator, KERNEL),
    _quantity("operator: 20 eigenvalues", _eigenvalues, KERNEL),
    _quantity("operator: trace, moment, one seed", _estimates, KERNEL),
    _quantity("kernel " + ", ".join(MEASURES), _measures, (1e-5, 1e-5, 1e-5, 1e-5)),
    _quantity("alpha, beta, intervals", _source_capacity, (1e-4, 1e-4, 1e-4, 1e-4), scale="each"),
    _quantity("power law, interval", _power_law, (1e-6, None, 1e-6, None), scale="each"),
    # exp(-2 lambda t / P): 2 t |dK| / P of itself, with |dK| = 1e-7 |K| and |K| t / P = 200.
    _quantity("lazy_flow: mse", _lazy_flow, (1e-4, 1e-4, 1e-4, 1e-4), scale="each"),
    # In float64 whatever the network's precision.
    _quantity("linearised_flow: mse", _linearised, (0.0, 1e-11, 1e-11, 1e-11), scale="each"),
    _quantity("kernel_regression", _regression, (1e-4, 1e-4, 1e-4, 1e-4)),
    _quantity("barrier, function distance", _landscape, (1e-5, None, 1e-5, 1e-5), scale="each"),
    _quantity("robust accuracy: FGSM, PGD, APGD", attacked, ATTACKED, scale="absolute"),
]
