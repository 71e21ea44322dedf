"""neural-tangents on empirical kernels, infinite-width kernels and lazy predictions, in float64.

The referee's side runs in .venv-jax, which has no torch: what needs torch is imported inside.
"""

# JAX lives in an environment of its own.
# pyright: reportMissingImports=false

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.referees.environments import Arrays, ask, serve
from benchmarks.referees.ruling import Ruling, deviation

TIMES = (0.3, 4.0, 50.0)
INFINITE = ("relu", "erf", "gelu")


def rule(seed: int, cases: int) -> list[Ruling]:
    """Ask all questions at once, since the start of JAX is what takes time."""
    import torch

    from benchmarks.ntk_peers.torch_models import arrays
    from benchmarks.referees.random_networks import draw, network
    from ntkscale import ntk
    from ntkscale.theory.infinite_width import cnn_kernels, kernels
    from ntkscale.theory.infinite_width import lazy_flow as lazy_ensemble
    from ntkscale.training import lazy_flow

    generator = np.random.default_rng(seed)
    questions: dict[str, Any] = {}
    plan: list[dict[str, Any]] = []
    ours: dict[str, list[np.ndarray]] = {}

    def keep(name: str, *values: Any) -> None:
        ours[name] = [np.asarray(value) for value in values]

    for number in range(cases):
        for kind in ("mlp", "cnn"):
            case, name = draw(kind, generator), f"{kind} {number}"
            net, x = network(case, int(generator.integers(2**31)))
            y = generator.standard_normal((case.n, case.classes))
            full = ntk.gram(net, x, output="full")
            methods = [
                ntk.gram(net, x, output="full", method=method)
                for method in ("structured", "jacobian", "products")
            ]
            flow = lazy_flow(full, torch.from_numpy(y), TIMES, residuals=True)
            assert flow.residuals is not None
            keep(name, full, *methods, flow.residuals)
            plan.append({"name": name, "kind": "empirical", "case": asdict(case)})
            stored = arrays(net, x) | {"targets": y}
            questions |= {f"{name}/{key}": value for key, value in stored.items()}
        for phi in INFINITE:
            name = f"{phi} {number}"
            depth, features = int(generator.integers(1, 5)), int(generator.integers(2, 9))
            weight, bias = generator.uniform(0.5, 2.5), generator.uniform(0.0, 1.0)
            x1, x2 = (generator.standard_normal((size, features)) for size in (5, 3))
            y = generator.standard_normal((5, 2))
            options: dict[str, Any] = {
                "depth": depth,
                "activation": phi,
                "weight_variance": weight,
                "bias_variance": bias,
            }
            train, cross, test = (kernels(*z, **options) for z in ((x1,), (x2, x1), (x2,)))
            start = (train.nngp, cross.nngp, test.nngp.diagonal())
            lazy = lazy_ensemble(train.ntk, y, TIMES, cross=cross.ntk, nngp=start)
            height, width = (int(side) for side in generator.integers(4, 7, size=2))
            images = generator.standard_normal((2, 2, height, width))
            shallow: dict[str, Any] = options | {"depth": min(depth, 2)}
            convolved = cnn_kernels(images, **shallow)
            keep(name, cross.nngp, cross.ntk, lazy.mean, lazy.variance)
            ours[name] += [convolved.nngp.numpy(), convolved.ntk.numpy()]
            plan.append({"name": name, "kind": "infinite", **options})
            stored = {"x1": x1, "x2": x2, "targets": y, "images": images}
            questions |= {f"{name}/{key}": value for key, value in stored.items()}
    questions["plan"] = np.array(json.dumps(plan))
    module = "benchmarks.referees.by_neural_tangents"
    theirs, referee = ask(
        ".venv-jax", module, questions, JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="3"
    )

    def worst(names: list[str], parts: range) -> float:
        return max(
            deviation(ours[name][part], theirs[f"{name}/{part}"])
            for name in names
            for part in parts
        )

    rows = []
    for kind, title in (("mlp", "MLPs"), ("cnn", "CNNs")):
        names = [f"{kind} {number}" for number in range(cases)]
        title = f"empirical kernel of {title}, all outputs, every method"
        rows.append(Ruling(title, referee, cases, worst(names, range(4)), 1e-12))
    names = [f"{kind} {number}" for kind in ("mlp", "cnn") for number in range(cases)]
    title = "lazy residuals from an empirical kernel"
    rows.append(Ruling(title, referee, 2 * cases, worst(names, range(4, 5)), 1e-11))
    for phi in INFINITE:
        names = [f"{phi} {number}" for number in range(cases)]
        title = f"infinite-width NNGP and NTK, {phi}"
        rows.append(Ruling(title, referee, cases, worst(names, range(2)), 1e-12))
        title = f"the same of CNNs, {phi}"
        rows.append(Ruling(title, referee, cases, worst(names, range(4, 6)), 1e-12))
    names = [f"{phi} {number}" for phi in INFINITE for number in range(cases)]
    # Wider than rounding asks for: `scipy_flows` agrees a thousand times closer on its cases.
    title = "mean and variance of lazy ensembles"
    rows.append(Ruling(title, referee, len(names), worst(names, range(2, 4)), 1e-6))
    return rows


def answer(questions: Arrays) -> dict[str, Any]:
    """The same by neural-tangents."""
    import jax

    jax.config.update("jax_enable_x64", True)
    answers: dict[str, Any] = {}
    for question in json.loads(str(questions["plan"])):
        name = question["name"]
        stored = {
            key.removeprefix(f"{name}/"): value
            for key, value in questions.items()
            if key.startswith(f"{name}/")
        }
        found = (_empirical if question["kind"] == "empirical" else _infinite)(question, stored)
        answers |= {f"{name}/{part}": np.asarray(value) for part, value in enumerate(found)}
    return answers


def _empirical(question: dict[str, Any], stored: Arrays) -> list[Any]:
    import neural_tangents as nt

    from benchmarks.ntk_peers.cases import Case
    from benchmarks.ntk_peers.jax_models import load

    case, y = Case(**question["case"]), stored.pop("targets")
    forward, params, x = load(case, stored)
    kernel = nt.empirical_ntk_fn(forward, trace_axes=(), vmap_axes=0)(x, None, params)
    predict = nt.predict.gradient_descent_mse(kernel, y, trace_axes=())
    # Its loss is a mean over outputs too, so that its time is C times ours.
    left = [y - np.asarray(predict(t * case.classes, 0 * y)) for t in TIMES]
    return [kernel] * 4 + [np.stack(left)]


def _infinite(question: dict[str, Any], stored: Arrays) -> list[Any]:
    import neural_tangents as nt
    from neural_tangents import stax

    w, b = question["weight_variance"] ** 0.5, question["bias_variance"] ** 0.5
    phi = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}[question["activation"]]()
    depth = question["depth"]
    layers = (stax.Dense(1, w, b), phi) * depth
    kernel = stax.serial(*layers, stax.Dense(1, w))[2]
    x1, x2, y = stored["x1"], stored["x2"], stored["targets"]
    predict = nt.predict.gradient_descent_mse_ensemble(kernel, x1, y, diag_reg=0.0)
    after = [predict(t=t * y.shape[1], x_test=x2, get="ntk", compute_cov=True) for t in TIMES]
    layers = (stax.Conv(1, (3, 3), padding="SAME", W_std=w, b_std=b), phi) * min(depth, 2)
    convolved = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1, w))[2]
    images = stored["images"].transpose(0, 2, 3, 1)
    return [
        kernel(x2, x1, "nngp"),
        kernel(x2, x1, "ntk"),
        np.stack([found.mean for found in after]),
        np.stack([np.diagonal(found.covariance) for found in after]),
        convolved(images, None, "nngp"),
        convolved(images, None, "ntk"),
    ]


if __name__ == "__main__":
    serve(answer, "neural-tangents")
