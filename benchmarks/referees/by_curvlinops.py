"""curvlinops on products, eigenvalues and traces: its Jacobians, and its Gauss-Newton matrix.

With the squared error summed over samples the latter is 2 J^T J, whose eigenvalues other than zero
are twice those of J J^T. The referee's side runs in .venv-peers.
"""

# curvlinops lives in an environment of its own.
# pyright: reportMissingImports=false

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ntk_peers.cases import Case
from benchmarks.referees.environments import Arrays, ask, serve
from benchmarks.referees.random_networks import draw, network
from benchmarks.referees.ruling import Ruling, deviation

KINDS = ("mlp", "cnn")


def rule(seed: int, cases: int) -> list[Ruling]:
    """Kernels and operators of random networks."""
    from ntkscale import ntk

    generator = np.random.default_rng(seed)
    questions: dict[str, Any] = {}
    plan: list[dict[str, Any]] = []
    ours: list[list[Any]] = []
    for kind in KINDS * cases:
        case, own = draw(kind, generator), int(generator.integers(2**31))
        net, x = network(case, own)
        operator = ntk.operator(net, x, output="full")
        size = operator.shape[0]
        v = torch.from_numpy(generator.standard_normal((size, 2)))
        k = min(3, size)
        dense = ntk.gram(net, x, output="full").permute(0, 2, 1, 3).reshape(size, size)
        top = operator.top_eigenvalues(k, tolerance=1e-9).values
        trace = operator.trace(exact=True).value
        ours.append([operator @ v, torch.linalg.eigvalsh(dense).flip(0), top, trace])
        plan.append({"case": asdict(case), "seed": own})
        questions[f"{len(plan) - 1}/v"] = v.numpy()
    questions["plan"] = np.array(json.dumps(plan))
    theirs, referee = ask(".venv-peers", "benchmarks.referees.by_curvlinops", questions)
    found: list[list[float]] = [[], [], [], []]
    for number, (product, values, top, trace) in enumerate(ours):
        spectrum = theirs[f"{number}/values"]
        # The smaller of the two matrices has all eigenvalues that are not zero.
        kept = min(len(values), len(spectrum))
        found[0].append(deviation(product, theirs[f"{number}/product"]))
        found[1].append(deviation(values[:kept], spectrum[:kept]))
        found[2].append(float(np.max(np.abs(np.asarray(top) / spectrum[: len(top)] - 1))))
        found[3].append(deviation(trace, theirs[f"{number}/trace"]))
    rows = (
        ("operator products, against J (J^T v)", 1e-12),
        ("eigenvalues of the kernel, against the Gauss-Newton matrix", 1e-12),
        ("three largest eigenvalues by Lanczos, each of its own", 1e-9),
        ("exact trace of the operator", 1e-12),
    )
    return [
        Ruling(title, referee, len(ours), max(part), bound)
        for (title, bound), part in zip(rows, found, strict=True)
    ]


def answer(questions: Arrays) -> dict[str, Any]:
    """The same by curvlinops."""
    answers: dict[str, Any] = {}
    for number, question in enumerate(json.loads(str(questions["plan"]))):
        fields: dict[str, Any] = question["case"] | {"sample": tuple(question["case"]["sample"])}
        case = Case(**fields)
        net, x = network(case, question["seed"])
        v = torch.from_numpy(questions[f"{number}/v"])
        product, values = _products(net, x, v, case.classes)
        answers |= {
            f"{number}/product": product,
            f"{number}/values": values,
            f"{number}/trace": values.sum(),
        }
    return answers


def _products(net: nn.Module, x: Tensor, v: Tensor, classes: int) -> tuple[Any, np.ndarray]:
    from curvlinops import (
        GGNLinearOperator,
        JacobianLinearOperator,
        TransposedJacobianLinearOperator,
    )

    params = [p for p in net.parameters() if p.requires_grad]
    data = [(x, x.new_zeros(len(x), classes))]
    jacobian = JacobianLinearOperator(net, params, data)
    transposed = TransposedJacobianLinearOperator(net, params, data)
    product = jacobian @ (transposed @ v)
    curvature = GGNLinearOperator(net, nn.MSELoss(reduction="sum"), params, data)
    count = sum(p.numel() for p in params)
    dense = curvature @ torch.eye(count, dtype=x.dtype) / 2
    values = torch.linalg.eigvalsh((dense + dense.T) / 2).flip(0)
    return product.detach().numpy(), values.detach().numpy()


if __name__ == "__main__":
    serve(answer, "curvlinops-for-pytorch")
