"""The tracker's rows against the formulas of the schema, written out from a float64 reference."""

import contextlib
import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from ntkscale.schema import QUANTITIES
from ntkscale.tracking import KernelTracker
from ntkscale.tracking import spectrum as spectrum_module

SEED = int(np.random.SeedSequence().generate_state(1)[0])


def reference_kernel(model, x):
    """sum_c J_c J_c^T / C in float64, one backward pass at a time."""
    rows = []
    for i in range(len(x)):
        y = model(x[i : i + 1])[0]
        for c in range(len(y)):
            g = torch.autograd.grad(y[c], list(model.parameters()), retain_graph=True)
            rows.append(torch.cat([v.reshape(-1) for v in g]).double())
    j = torch.stack(rows).unflatten(0, (len(x), -1))
    return torch.einsum("acp,bcp->ab", j, j) / j.shape[1], j


def setup(seed=SEED, dtype=torch.float64) -> tuple[Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed % 2**31)
    n, outputs = int(torch.randint(5, 9, ())), int(torch.randint(1, 4, ()))
    model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, outputs)).to(dtype)
    return model, torch.randn(n, 4, dtype=dtype), torch.randn(n, outputs, dtype=dtype)


def move(model, size=0.3):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=size)


def test_rows_against_the_formulas():
    model, x, y = setup()
    n, gamma = len(x), 1.7
    tracker = KernelTracker(model, x, y, gamma=gamma, by_layer=True, eigenvalues=3, directions=4)
    kernels = []
    for step, time in ((0, 0.0), (3, 0.5), (10, 2.0)):
        k = gamma**2 * reference_kernel(model, x)[0]
        kernels.append(k)
        row = tracker.measure(time=time, step=step)
        assert set(row) <= set(QUANTITIES)
        assert (row["step"], row["time"]) == (step, time)
        torch.testing.assert_close(tracker.kernel, k, rtol=1e-10, atol=1e-12)

        def distance(a, b):
            return float(1 - (a * b).sum() / (a.norm() * b.norm()))

        close = lambda value: pytest.approx(value, rel=1e-9, abs=1e-13)  # noqa: E731
        assert row["kernel_distance"] == close(distance(kernels[0], k))
        assert row["kernel_change"] == close(float((k - kernels[0]).norm() / kernels[0].norm()))
        outer = y @ y.T
        assert row["kernel_alignment"] == close(
            float((k * outer).sum() / (k.norm() * outer.norm()))
        )
        assert row["kernel_trace"] == close(float(k.trace()) / n)
        assert row["effective_rank"] == close(float(k.trace() ** 2 / (k @ k).trace()))
        values = torch.linalg.eigvalsh(k / n).flip(0)
        assert row["kernel_eigenvalues"] == close(values[:3].tolist())
        vectors = torch.linalg.eigh(kernels[0])[1].flip(1)
        assert row["kernel_growth"] == close([float(u @ k @ u) / n for u in vectors.T[:4]])
        if step:
            before = kernels[-2]
            passed = {3: 0.5, 10: 1.5}[step]
            assert row["kernel_velocity"] == close(distance(before, k) / passed)
        else:
            assert "kernel_velocity" not in row
        move(model)
    torch.testing.assert_close(tracker.initial_kernel, kernels[0], rtol=1e-10, atol=1e-12)
    assert [r["step"] for r in tracker.history] == [0, 3, 10]


def test_lists_by_layer():
    model, x, _ = setup()
    n = len(x)
    tracker = KernelTracker(model, x, by_layer=True)
    sizes = [p.numel() for p in model.parameters()]

    def by_layer():
        _, j = reference_kernel(model, x)
        return [torch.einsum("acp,bcp->ab", b, b) / j.shape[1] for b in j.split(sizes, 2)]

    first = by_layer()
    tracker.measure(step=0)
    move(model)
    row = tracker.measure(step=1)
    now = by_layer()
    assert tracker.layers == [name for name, _ in model.named_parameters()]
    assert row["kernel_trace_by_layer"] == pytest.approx([float(k.trace()) / n for k in now])
    assert sum(row["kernel_trace_by_layer"]) == pytest.approx(row["kernel_trace"])
    assert row["kernel_distance_by_layer"] == pytest.approx(
        [float(1 - (a * b).sum() / (a.norm() * b.norm())) for a, b in zip(first, now, strict=True)],
        abs=1e-12,
    )


def test_without_time_targets_or_layers_a_row_holds_what_is_defined():
    model, x, _ = setup()
    tracker = KernelTracker(model, x)
    tracker.measure()
    row = tracker.measure()
    assert not {"time", "step", "kernel_velocity", "kernel_alignment"} & set(row)
    assert row["kernel_distance"] == 0 and row["kernel_change"] == 0


def test_initial_spectrum():
    model, x, y = setup()
    tracker = KernelTracker(model, x, y)
    with pytest.raises(RuntimeError, match=r"measure\(\)"):
        tracker.initial_spectrum()
    tracker.measure()
    move(model)
    tracker.measure()
    values, power = tracker.initial_spectrum()
    k = tracker.initial_kernel
    assert k is not None
    want, vectors = torch.linalg.eigh(k / len(x))
    torch.testing.assert_close(values, want.flip(0).clamp(min=0), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(power, (vectors.flip(1).T @ y).square().sum(1) / len(x))
    residual = torch.randn_like(y)
    torch.testing.assert_close(
        tracker.initial_spectrum(residual)[1].sum(), residual.square().sum(1).mean()
    )
    bare = KernelTracker(model, x)
    bare.measure()
    with pytest.raises(ValueError, match="no targets"):
        bare.initial_spectrum()


def test_large_probes_use_the_same_numbers(monkeypatch):
    torch.manual_seed(0)
    a = torch.randn(60, 80, dtype=torch.float64)
    k = a @ a.T
    dense = spectrum_module.leading_eigenvalues(k, 6), spectrum_module.leading_eigenvectors(k, 6)
    monkeypatch.setattr(spectrum_module, "DENSE", 10)
    sparse = spectrum_module.leading_eigenvalues(k, 6), spectrum_module.leading_eigenvectors(k, 6)
    torch.testing.assert_close(dense, sparse, rtol=1e-9, atol=1e-9)
    again = spectrum_module.leading_eigenvectors(k, 6)
    assert torch.equal(again, sparse[1])


def train(model, x, y, tracker, steps, optimiser=None):
    optimiser = optimiser or torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in steps:
        if tracker is not None:
            tracker.step(step, 0.05 * step)
        optimiser.zero_grad()
        picked = torch.randperm(len(x))[: len(x) // 2]
        (model(x[picked]) - y[picked]).square().mean().backward()
        optimiser.step()
    return optimiser


def noisy_model(dtype=torch.float32):
    """Dropout and batch norm: training consumes random numbers and moves buffers."""
    torch.manual_seed(SEED % 2**31)
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)
    ).to(dtype)


@pytest.mark.parametrize("by_layer", [False, True])
def test_training_is_bitwise_unaffected(by_layer):
    x, y = torch.randn(12, 4), torch.randn(12, 2)
    results = []
    for tracked in (False, True):
        model = noisy_model()
        model[3].eval()
        tracker = KernelTracker(model, x[:5], y[:5], by_layer=by_layer) if tracked else None
        torch.manual_seed(5)
        optimiser = train(model, x, y, tracker, range(12))
        modes = [m.training for m in model.modules()]
        grads = [p.grad for p in model.parameters()]
        results.append((model.state_dict(), grads, modes, optimiser.state_dict(), torch.rand(3)))
        if tracker is not None:
            assert len(tracker.history) > 5 and tracker.seconds > 0
            tracker.measure()
            assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    (a, ga, ma, _, ra), (b, gb, mb, _, rb) = results
    assert ma == mb and torch.equal(ra, rb)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.equal(p, q) for p, q in zip(ga, gb, strict=True))


def test_flags_come_back_after_an_error():
    class Broken(nn.Linear):
        def forward(self, input):
            raise OSError("broken")

    model = nn.Sequential(Broken(3, 2), nn.Dropout())
    with pytest.raises(OSError, match="broken"):
        KernelTracker(model, torch.randn(3, 3)).measure()
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("by_layer", [False, True])
def test_resume_is_bitwise(by_layer):
    def fresh():
        model, x, y = setup(dtype=torch.float32)
        return model, KernelTracker(model, x, y, by_layer=by_layer), x, y

    model, tracker, x, y = fresh()
    torch.manual_seed(1)
    train(model, x, y, tracker, range(20))
    model2, tracker2, _, _ = fresh()
    torch.manual_seed(1)
    optimiser = train(model2, x, y, tracker2, range(9))
    random_state = torch.get_rng_state()
    state = {name: value.clone() for name, value in tracker2.state_dict().items()}
    assert all(isinstance(v, torch.Tensor) and v.is_contiguous() for v in state.values())
    model3, tracker3, _, _ = fresh()
    tracker3.load_state_dict(state)
    assert tracker3.history == tracker2.history
    model3.load_state_dict(model2.state_dict())
    resumed = torch.optim.SGD(model3.parameters(), lr=0.05, momentum=0.9)
    resumed.load_state_dict(optimiser.state_dict())
    torch.set_rng_state(random_state)
    train(model3, x, y, tracker3, range(9, 20), optimiser=resumed)
    assert tracker3.history == tracker.history
    final, want = tracker3.state_dict(), tracker.state_dict()
    assert final.keys() == want.keys()
    assert all(torch.equal(final[name], want[name]) for name in final)


def test_state_before_the_first_measurement_and_of_another_probe():
    model, x, _ = setup()
    tracker = KernelTracker(model, x)
    assert tracker.state_dict() == {}
    tracker.measure(time=0.0)
    state = tracker.state_dict()
    with pytest.raises(ValueError, match="build it as before"):
        KernelTracker(model, x[:3]).load_state_dict(state)
    with pytest.raises(ValueError, match="by_layer"):
        KernelTracker(model, x, by_layer=True).load_state_dict(state)
    tracker.load_state_dict({})
    assert tracker.kernel is None and tracker.history == []


@contextlib.contextmanager
def process_group(tmp_path: Path):
    # Only the loopback interface is sure to exist.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", socket.if_nameindex()[0][1])
        dist.init_process_group(
            "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
        )
        try:
            yield
        finally:
            dist.destroy_process_group()


def test_compiled_and_data_parallel_models(tmp_path):
    model, x, y = setup()
    plain = KernelTracker(model, x, y).measure(step=0)
    compiled: Any = torch.compile(model, backend="eager")
    compiled(x).sum().backward()
    assert KernelTracker(compiled, x, y).measure(step=0) == plain
    with process_group(tmp_path):
        wrapped = nn.parallel.DistributedDataParallel(model)
        wrapped(x).sum().backward()
        assert KernelTracker(wrapped, x, y).measure(step=0) == plain
        both: Any = torch.compile(wrapped, backend="eager")
        assert KernelTracker(both, x, y).measure(step=0) == plain


class Wrapped(nn.Module):
    def __init__(self, model, wrap):
        super().__init__()
        self.model, self.wrap = model, wrap

    def forward(self, x):
        return self.wrap(self.model(x))


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda y: {"logits": y, "loss": 0.0}, "logits"),
        (lambda y: ("state", y), 1),
        (lambda y: ("state", {"a": [y]}), lambda r: r[1]["a"][0]),
    ],
)
def test_models_that_return_more_than_a_tensor(wrap, output):
    model, x, y = setup()
    plain = KernelTracker(model, x, y).measure()
    assert KernelTracker(Wrapped(model, wrap), x, y, output=output).measure() == plain
    with pytest.raises(ValueError, match="pick"):
        KernelTracker(Wrapped(model, wrap), x, y).measure()
    with pytest.raises(ValueError, match="leave output out"):
        KernelTracker(model, x, output=0).measure()


class Rich(nn.Module):
    """A model with its own gamma, which members of an ensemble may differ in."""

    gamma0: torch.Tensor

    def __init__(self, gamma0):
        super().__init__()
        self.into, self.out = nn.Linear(4, 9, bias=False), nn.Linear(9, 2, bias=False)
        self.register_buffer("gamma0", torch.tensor(gamma0, dtype=torch.float64))

    @property
    def gamma(self):
        return self.gamma0 * 3

    def forward(self, x):
        return self.out(torch.tanh(self.into(x))) / (self.gamma0 * 9)


def test_own_gamma_and_members_of_an_ensemble():
    members = [Rich(g).double() for g in (1e-6, 0.3, 5.0)]
    x = torch.randn(6, 4, dtype=torch.float64)
    params, buffers = torch.func.stack_module_state([*members])
    for i, member in enumerate(members):
        want = member.gamma**2 * reference_kernel(member, x)[0]
        tracker = KernelTracker(member, x)
        row = tracker.measure()
        torch.testing.assert_close(tracker.kernel, want, rtol=1e-10, atol=1e-12)
        values = {name: value[i] for name, value in (params | buffers).items()}
        other = KernelTracker(Rich(7.0).double(), x)
        assert other.measure(params=values) == row


@pytest.mark.parametrize("gamma0", [1e-12, 1e-3, 1e12])
def test_extreme_richness_neither_under_nor_overflows_in_float32(gamma0):
    """gamma^2 J J^T does not depend on gamma0 for this model: the same row at every richness."""
    torch.manual_seed(SEED % 2**31)
    models = [Rich(g).float() for g in (1.0, gamma0)]
    models[1].into, models[1].out = models[0].into, models[0].out
    x = torch.randn(6, 4)
    rows = [KernelTracker(model, x).measure() for model in models]
    for name in ("kernel_trace", "effective_rank"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-5)
    assert rows[1]["kernel_eigenvalues"][:2] == pytest.approx(
        rows[0]["kernel_eigenvalues"][:2], rel=1e-4
    )


def test_a_diverged_model_gives_nan_and_a_bad_start_an_error():
    model, x, y = setup()
    tracker = KernelTracker(model, x, y)
    tracker.measure(time=0.0)
    model[0].weight.data.fill_(torch.inf)
    row = tracker.measure(time=1.0)
    assert all(math.isnan(v) for v in row["kernel_eigenvalues"])
    assert math.isnan(row["kernel_distance"])
    with pytest.raises(ValueError, match="initial kernel"):
        KernelTracker(model, x, y).measure()


def test_share_and_seconds():
    model, x, _ = setup()
    tracker = KernelTracker(model, x)
    assert tracker.seconds == 0
    row = tracker.measure()
    assert tracker.seconds > 0 and tracker.share(2 * tracker.seconds) == pytest.approx(0.5)
    assert not any("second" in name for name in row)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"probe_targets": torch.zeros(2, 1)}, "one target"),
        ({"eigenvalues": -1}, "negative"),
        ({"directions": -1}, "negative"),
    ],
)
def test_bad_input(arguments, says):
    model, x, _ = setup()
    with pytest.raises(ValueError, match=says):
        KernelTracker(model, x, **arguments)


def test_targets_may_be_a_vector():
    model, x, y = setup()
    got = KernelTracker(model, x, y[:, 0]).measure()["kernel_alignment"]
    assert got == KernelTracker(model, x, y[:, :1]).measure()["kernel_alignment"]
