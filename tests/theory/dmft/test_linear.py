"""Deep linear networks: sweeps over the whole history, finite networks, structure, bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale.theory.dmft import Solution, draw, memory_weights, pose, solve, solve_linear
from tests.reference.dmft_linear import sweep_linear
from tests.reference.mean_field_network import train_network

RNG = np.random.default_rng()


def data(num: int, outputs: int | None = None) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(RNG.standard_normal((num, int(RNG.integers(num, 2 * num)))))
    return x, torch.from_numpy(RNG.standard_normal((num,) if outputs is None else (num, outputs)))


def settings(depth: int, **more: Any) -> dict[str, Any]:
    gamma0 = float(RNG.uniform(0.3, 0.8))
    eta = float(RNG.uniform(0.05, 0.2)) / depth
    return {"depth": depth, "gamma0": gamma0, "learning_rate": eta, "steps": 12, **more}


def same(a: Solution, b: Solution, tolerance: float = 1e-11) -> None:
    for name in ("outputs", "mse", "loss", "ntk", "phi", "g"):
        first, second = getattr(a, name), getattr(b, name)
        for one, other in zip(first, second, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for name in ("forward_responses", "backward_responses"):
        for one, other in zip(getattr(a, name), getattr(b, name), strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("more", [{}, {"flow": True}, {"momentum": 0.6}, {"responses": False}])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_march_is_the_fixed_point_of_sweeps(depth: int, more: dict[str, Any]) -> None:
    x, y = data(3)
    call = settings(depth, **more)
    call["learning_rate"] *= 1 - call.get("momentum", 0)
    found = solve_linear(x, y, **call)
    responses = call.pop("responses", True) or depth == 1
    problem = pose(x, y, **call)
    expected = sweep_linear(
        problem.kernel.numpy(),
        y.numpy(),
        problem.weights.numpy(),
        depth=depth,
        gamma0=call["gamma0"],
        sweeps=60,
        responses=responses,
    )
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
    kept = [0, *range(2, 13)]  # flow interpolates the outputs of step 1
    np.testing.assert_allclose(found.outputs[kept], expected["outputs"][kept], **close)
    np.testing.assert_allclose(found.ntk, expected["ntk"], **close)
    for layer in range(depth):
        np.testing.assert_allclose(found.phi[layer].reshape(39, 39), expected["h"][layer], **close)
        np.testing.assert_allclose(found.g[layer][:, 0, :, 0], expected["g"][layer], **close)
    for layer in range((depth - 1) * responses):
        a, b = found.forward_responses[layer], found.backward_responses[layer]
        scale = call["gamma0"]  # the sweeps' responses absorb it
        np.testing.assert_allclose(scale * a.reshape(39, 13), expected["a"][layer], **close)
        np.testing.assert_allclose(scale * b.reshape(13, 39), expected["b"][layer + 1], **close)


@pytest.mark.parametrize(
    ("depth", "outputs", "more"),
    [
        (2, None, {}),
        (3, None, {"flow": True}),
        (2, 2, {"momentum": 0.5}),
        (3, 3, {"loss": "cross-entropy"}),
        (2, None, {"responses": False}),
    ],
)
def test_structure(depth: int, outputs: int | None, more: dict[str, Any]) -> None:
    x, y = data(4, outputs)
    if more.get("loss"):
        y = torch.softmax(y, 1)
    call = settings(depth, gamma0=1.0, **more)
    # The last two points are training points once more: they are answered alike.
    found = solve_linear(x, y, x_test=x[:2], y_test=y[:2], **call)
    torch.testing.assert_close(found.outputs[:, 4:], found.outputs[:, :2])
    for phi, g in zip(found.phi, found.g, strict=True):
        torch.testing.assert_close(phi[:, 4:], phi[:, :2])
        torch.testing.assert_close(phi[:, :, :, 4:], phi[:, :, :, :2])
        for kernel in (phi.reshape(13 * 6, -1), g.reshape(13 * 6 * (outputs or 1), -1)):
            torch.testing.assert_close(kernel, kernel.T)
            values = torch.linalg.eigvalsh(kernel)
            assert values[0] > -1e-12 * values[-1]
    for a in found.forward_responses:
        assert not any(bool(a[t, :, t:].any()) for t in range(13))
    for b in found.backward_responses:
        assert not any(bool(b[t, ..., t:, :].any()) for t in range(13))
    # Without test points, and cut in two: the same.
    alone = solve_linear(x, y, **call)
    torch.testing.assert_close(alone.outputs, found.outputs[:, :4])
    begun = solve_linear(x, y, x_test=x[:2], y_test=y[:2], **dict(call, steps=5))
    torch.testing.assert_close(begun.phi[-1], found.phi[-1][:6, :, :6])
    same(solve_linear(x, y, x_test=x[:2], y_test=y[:2], start=begun, **call), found)
    # A kernel in place of inputs.
    everything = torch.cat((x, x[:2]))
    inputs = everything @ everything.T / x.shape[1]
    same(solve_linear(None, y, kernel=inputs, y_test=y[:2], **call), found)


def test_one_hidden_layer_needs_no_responses() -> None:
    x, y = data(4)
    call = settings(1, gamma0=1.0)
    same(solve_linear(x, y, responses=False, **call), solve_linear(x, y, **call), 0.0)


def test_columns_that_share_nothing_learn_as_one_output_does() -> None:
    x, y = data(4)
    call = settings(2, gamma0=1.0)
    two = solve_linear(x, torch.stack((y, torch.zeros_like(y)), dim=1), **call)
    one = solve_linear(x, y, **call)
    torch.testing.assert_close(two.outputs[..., 0], one.outputs)
    torch.testing.assert_close(two.phi[1], one.phi[1])
    assert not two.outputs[..., 1].any()
    turned = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0]
    mixed = solve_linear(x, torch.stack((y, torch.zeros_like(y)), dim=1) @ turned, **call)
    torch.testing.assert_close(mixed.outputs, two.outputs @ turned)


@pytest.mark.parametrize(("outputs", "momentum"), [(1, 0.0), (2, 0.7)])
def test_descent_of_wide_networks_at_a_large_learning_rate(outputs: int, momentum: float) -> None:
    x, y = data(4, outputs)
    y *= 2 / y.norm()
    top = float(torch.linalg.eigvalsh(x @ x.T / x.shape[1])[-1]) * 3 / 4
    call = settings(2, gamma0=1.0, steps=8, momentum=momentum)
    call["learning_rate"] = 0.5 * (1 - momentum) / top
    found = solve_linear(x, y, **call)
    errors: dict[str, list[float]] = {"outputs": [], "phi": [], "g": []}
    for width in (100, 400):
        runs = [train_network(x, y, torch.clone, width=width, seed=s, **call) for s in range(32)]
        for name, expected, measured in (
            ("outputs", found.outputs, [run.outputs for run in runs]),
            ("phi", found.phi[-1], [run.phi[-1] for run in runs]),
            ("g", found.g[0], [run.g[0] for run in runs]),
        ):
            wrong = torch.stack(measured) - expected.reshape(measured[0].shape)
            wrong = wrong.flatten(1) / expected.norm()
            single = wrong.norm(dim=1).square().mean().sqrt()
            errors[name].append(float(single))
            # What chance leaves of 32 networks, and a finite width's own part, O(1 / N).
            assert float(wrong.mean(0).norm()) < 3 * float(single) / 32**0.5 + 10 / width, name
    for name, (narrow, wide) in errors.items():
        assert wide < 0.85 * narrow, name  # 0.5 expected, give or take 0.1


def test_a_solution_survives_the_disk(tmp_path: Any) -> None:
    x, y = data(3, 2)
    call = settings(2)
    begun = solve_linear(x, y, x_test=x, y_test=y, **dict(call, steps=6))
    begun.save(tmp_path / "begun.safetensors")
    loaded = Solution.load(tmp_path / "begun.safetensors")
    same(loaded, begun, 0.0)
    assert loaded.cost == begun.cost
    # Expanded axes take no room, on disk or in memory.
    assert 0 in loaded.g[0].stride()
    held = sum(phi.nbytes for phi in begun.phi) + begun.ntk.nbytes + 2 * begun.outputs.nbytes
    responses = (*begun.forward_responses, *begun.backward_responses)
    held += sum(each.nbytes for each in responses) + 2 * (7 * 2) ** 2 * 8
    assert (tmp_path / "begun.safetensors").stat().st_size < held + 4000
    whole = solve_linear(x, y, x_test=x, y_test=y, **call)
    same(solve_linear(x, y, x_test=x, y_test=y, start=loaded, **call), whole)
    (tmp_path / "begun.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged"):
        Solution.load(tmp_path / "begun.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["begun.safetensors"]


def test_drawn_fields_have_the_kernels() -> None:
    x, y = data(3)
    sampled = solve(x, y, activation="tanh", samples=1024, **settings(1, steps=2))
    with pytest.raises(ValueError, match="fields="):
        draw(sampled, 10)
    found = solve_linear(x, y, **settings(2, gamma0=1.0))
    fields = draw(found, 200_000, times=[0, 12])
    for layer in range(2):
        h = fields.h[layer].reshape(6, -1)
        expected = found.phi[layer][[0, 12]][:, :, [0, 12]].reshape(6, 6)
        torch.testing.assert_close(h @ h.T / h.shape[1], expected, rtol=0.05, atol=0.05)
        z = fields.z[layer].reshape(2, -1)
        expected = found.g[layer][:, 0, :, 0][[0, 12]][:, [0, 12]]
        torch.testing.assert_close(z @ z.T / z.shape[1], expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("flow", [False, True])
def test_divergence_is_reported(flow: bool) -> None:
    x, y = data(3)
    seen = []
    call = settings(2, learning_rate=30.0, flow=flow)
    found = solve_linear(x, y, progress=lambda done, of: seen.append((done, of)), **call)
    assert not found.converged
    assert "smaller" in found.message
    assert len(found.times) == len(found.mse) == len(found.phi[0]) == len(seen) < 13
    assert found.mse.isfinite().all()
    assert seen[0] == (1, 13)


def test_bad_input() -> None:
    x, y = data(3)
    call = settings(2)
    for wrong, message in [
        ({"gamma0": -1.0}, "gamma0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"steps": 0}, "steps"),
        ({"depth": 0}, "depth"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.5, "flow": True}, "flow"),
        ({"loss": "hinge"}, "loss"),
        ({"loss": "cross-entropy"}, "probabilities"),
        ({"x_test": x[:, :-1]}, "x_test"),
        ({"y_test": y}, "y_test"),
        ({"kernel": torch.eye(3)}, "either"),
        ({"memory": 1000}, "memory"),
    ]:
        with pytest.raises(ValueError, match=message):
            solve_linear(x, y, **{**call, **wrong})
    for inputs, kernel in [(x[:2], None), (None, torch.eye(2)), (None, torch.ones(3, 3).triu())]:
        with pytest.raises(ValueError, match="give"):
            solve_linear(inputs, y, kernel=kernel, **call)
    with pytest.raises(ValueError, match="finite"):
        solve_linear(x / 0, y, **call)
    for wrong, message in [
        ({"depth": "two"}, "depth must be a whole number"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"steps": float("nan")}, "steps must be a whole number"),
        ({"learning_rate": "0.1"}, "learning_rate must be positive"),
        ({"gamma0": "x"}, "gamma0 must be zero"),
        ({"momentum": None}, "momentum must be 0 or more"),
        ({"y": ["a", "b", "c"]}, "y is no array of numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            solve_linear(**{"x": x, "y": y, **call, **wrong})
    with pytest.raises(ValueError, match="momentum"):
        memory_weights(3, 0.1, momentum=1.0)
    assert solve_linear(x, y, **{**call, "depth": 2.0, "steps": 3.0}).depth == 2
    indefinite = torch.tensor([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="eigenvalue -1; it must be positive semi-definite"):
        solve_linear(None, y, kernel=indefinite, **call)
    assert solve_linear(None, y, kernel=torch.zeros(3, 3), **call).converged
    classes = torch.nn.functional.one_hot(torch.arange(3) % 2)
    with pytest.raises(ValueError, match="y_test has rows that are no probabilities"):
        solve_linear(x, classes, x_test=x, y_test=2 * classes, **{**call, "loss": "cross-entropy"})


@pytest.mark.parametrize("gamma0", [0.0, 0.7])
def test_a_start_of_another_problem_is_refused(gamma0: float) -> None:
    x, y = data(3)
    y = y.sign()
    call = settings(2, gamma0=gamma0, learning_rate=0.1)
    begun = solve_linear(x, y, **{**call, "steps": 6})
    same(solve_linear(x, y, start=begun, **call), solve_linear(x, y, **call))
    short = solve_linear(x, y, **{**call, "steps": 1})
    same(solve_linear(x, y, start=short, **call), solve_linear(x, y, **call))
    turned = y.clone()
    turned[int(RNG.integers(3))] *= -1
    two = {**call, "learning_rate": 0.05, "momentum": 0.5}  # the same times
    three = torch.stack((y, y), 1)
    for targets, other in [
        (2 * y, call),
        (-y, call),
        (turned, call),
        (y, two),
        (y, {**call, "flow": True}),
        (y, {**call, "responses": False}),
        (y, {**call, "depth": 3}),
        (three, call),
    ]:
        for start in (begun, short):
            if other.get("flow") and start is short:
                continue  # one step of either is the same
            with pytest.raises(ValueError, match="another problem"):
                solve_linear(x, targets, start=start, **other)
        start = solve_linear(x, targets, **{**other, "steps": 6})
        with pytest.raises(ValueError, match="another problem"):
            solve_linear(x, y, start=start, **call)
    more = torch.cat((x, x[:1] + 1))
    for inputs, targets in ((more, torch.cat((y, y[:1]))), (x + 0.1, y)):
        with pytest.raises(ValueError, match="another problem"):
            solve_linear(inputs, targets, start=begun, **call)
    with pytest.raises(ValueError, match="start must be a Solution, got str"):
        solve_linear(x, y, start="begun.safetensors", **call)  # pyright: ignore[reportArgumentType]


def test_a_flow_goes_on_from_any_time() -> None:
    x, y = data(3)
    call = settings(2, flow=True)
    whole = solve_linear(x, y, **call)
    for steps in range(1, 12):
        begun = solve_linear(x, y, **{**call, "steps": steps})
        same(solve_linear(x, y, start=begun, **call), whole)
    # Also from one that went further.
    same(
        solve_linear(x, y, start=whole, **{**call, "steps": 7}),
        solve_linear(x, y, **{**call, "steps": 7}),
    )
    same(
        solve_linear(x, y, start=whole, **{**call, "steps": 1}),
        solve_linear(x, y, **{**call, "steps": 1}),
    )


def test_memory_counts_what_is_held() -> None:
    x, y = data(3)
    held = torch.from_numpy(RNG.standard_normal((12, x.shape[1])))
    call = settings(2, steps=40)
    found = solve_linear(x, y, x_test=held, **call)
    kernels = sum(phi.nbytes for phi in found.phi)
    beside = 4 * (41 * 12) ** 2 * 8  # test against test points: own, its change, their parts
    assert kernels + beside < found.cost.peak_bytes < 1.3 * (kernels + beside)
