"""Data that cannot be had, and numbers that are none."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ntkscale import ntk, scaling
from ntkscale.networks import MLP
from ntkscale.tasks import Task, circle
from ntkscale.tracking import KernelTracker
from ntkscale.training import Batches, Optimisation, Trainer, lazy_flow
from tests.faults import toys
from tests.faults.row import Bench, Row

BAD = (math.nan, math.inf, -math.inf)


def failing_batches(at: int, error: Exception) -> Callable[[], None]:
    """Prepares a process whose batches cannot be had at step `at`."""

    def prepare() -> None:
        toys.saving_often(0.02)()
        indices = Batches.indices

        def fails(batches: Batches, step: int) -> torch.Tensor:
            if step == at:
                raise error
            return indices(batches, step)

        Batches.indices = fails  # type: ignore[method-assign]

    return prepare


def check_loader(bench: Bench) -> str:
    """In a command: what is done stays, and the same command ends with the same bits."""
    expected = toys.whole(toys.images(bench.folder / "whole"))
    errors = [OSError(5, "Input/output error", "shard-7"), EOFError("cut short"), ValueError("bad")]
    for number in range(bench.times(1, 6)):
        words = toys.images(bench.folder / f"runs{number}")
        error = errors[number % len(errors)]
        prepare = failing_batches(bench.draw.randrange(1, 200), error)
        done = toys.ended(words, prepare=prepare)
        foreseen = isinstance(error, (OSError, ValueError))
        assert done.code == (2 if foreseen else 1), f"exit code {done.code}: {done.said}"
        if foreseen:
            done.one_sentence()
        again = toys.ended(words)
        assert again.code == 0, again.said
        wrong = toys.different(toys.contents(toys.run_of(words)), expected)
        assert not wrong, f"{wrong} differ after {error!r}"
    return "exit code 2 in one sentence, or its traceback; then the same bits"


def check_own_loop(bench: Bench) -> str:
    """In one's own loop: the tracker keeps its rows and goes on, as if nothing had happened."""

    def network() -> tuple[nn.Module, torch.Tensor]:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(6, 4)

    def loader(fails_at: int) -> Iterator[torch.Tensor]:
        for step in range(40):
            if step == fails_at:
                raise OSError(5, "Input/output error")
            yield torch.randn(5, 4, generator=torch.Generator().manual_seed(step))

    def train(fails_at: int) -> list[dict[str, Any]]:
        model, probe = network()
        tracker = KernelTracker(model, probe)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        step, batches = 0, loader(fails_at)
        while step < 40:
            try:
                batch = next(batches)
            except OSError:
                before = len(tracker.history)
                batches = loader(-1)
                for _ in range(step):
                    next(batches)
                batch = next(batches)
                assert len(tracker.history) == before
            tracker.step(step)
            optimiser.zero_grad()
            (model(batch) - batch[:, :1]).square().mean().backward()
            optimiser.step()
            step += 1
        return tracker.history

    whole = train(-1)
    at = bench.draw.randrange(40)
    assert train(at) == whole, f"other rows after a failure at step {at}"
    return f"{len(whole)} rows, the same with a failure at step {at}"


def says_so(what: str, work: Callable[[], Any]) -> str:
    """Whether something refuses (in one sentence) or its numbers say that they are none."""
    try:
        found = work()
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) > 20, f"{what}: {error!r}"
        return "refused"
    finite = np.isfinite(np.asarray(found, dtype=np.float64))
    assert not finite.all(), f"{what}: finite numbers came out, {found!r}"
    return "not finite"


def check_not_finite(bench: Bench) -> str:
    """Nan and infinities come out as what they are, or are refused in words."""
    sound = circle(q=1.0, points=24, dtype=torch.float64)
    answers: list[str] = []
    for bad in BAD[: bench.times(1, 3)]:

        def net(weight: float = 0.0) -> MLP:
            made = MLP(2, 1, width=16, depth=2, gamma0=1.0, dtype=torch.float64)
            if weight != 0:
                with torch.no_grad():
                    next(iter(made.parameters())).reshape(-1)[5] = weight
            return made

        def spoilt(tensor: torch.Tensor, bad: float = bad) -> torch.Tensor:
            copy = tensor.clone()
            copy.reshape(-1)[7] = bad
            return copy

        inputs, targets = spoilt(sound.inputs), spoilt(sound.targets)
        kernel = ntk.gram(net(), sound.inputs)
        cases: dict[str, Callable[[], Any]] = {
            "kernel, inputs": lambda x=inputs: ntk.gram(net(), x).numpy(),
            "kernel, weights": lambda bad=bad: ntk.gram(net(bad), sound.inputs).numpy(),
            "operator": lambda x=inputs: ntk.operator(net(), x) @ np.ones(24),
            "eigenvalues": lambda k=kernel: ntk.eigensystem(spoilt(k))[0].numpy(),
            "power": lambda k=kernel, y=targets: ntk.target_power(ntk.eigensystem(k)[1], y).numpy(),
            "lazy flow, kernel": lambda k=kernel, bad=bad: lazy_flow(
                spoilt(k), sound.targets, [1.0]
            ).mse.numpy(),
            "lazy flow, targets": lambda k=kernel, y=targets: lazy_flow(k, y, [1.0]).mse.numpy(),
            "tracker": lambda bad=bad: KernelTracker(net(bad), sound.inputs).measure()[
                "kernel_trace"
            ],
            "power law": lambda bad=bad: (
                scaling.fit_power_law(
                    np.arange(1.0, 20), np.append(np.arange(1.0, 19), bad)
                ).exponent
            ),
            "source and capacity": lambda bad=bad: (
                scaling.source_capacity(
                    np.append(bad, 1 / np.arange(1.0, 40)), np.append(1.0, 1 / np.arange(1.0, 40))
                ).alpha
            ),
        }
        answers += [says_so(f"{bad} in {what}", work) for what, work in cases.items()]
        for what, task, weight in (
            ("inputs", Task("spoilt", inputs, sound.targets), 0.0),
            ("targets", Task("spoilt", sound.inputs, targets), 0.0),
            ("weights", sound, bad),
        ):
            for method in ("flow", "sgd", "adam"):
                trainer = Trainer(
                    net(weight),
                    task,
                    Optimisation(method=method, steps=30, learning_rate=0.01),  # type: ignore[arg-type]
                )
                try:
                    status = trainer.run().status
                except ValueError as error:
                    assert "\n" not in str(error), f"{bad} in {what}, {method}: {error}"
                    status = "refused"
                assert status in ("diverged", "refused"), f"{bad} in {what}, {method}: {status}"
                answers.append(status)
    counts = [f"{answers.count(one)} {one}" for one in dict.fromkeys(answers)]
    return ", ".join(counts)


ROWS = (
    Row(
        "the data loader raises in the middle of a command",
        "what is done stays; the same command ends with the same bits",
        check_loader,
    ),
    Row(
        "the data loader raises in one's own loop",
        "the tracker keeps its rows and goes on",
        check_own_loop,
    ),
    Row(
        "nan and infinities in inputs, targets, weights, kernels, curves",
        "refused in one sentence, diverged, or not finite; never a number",
        check_not_finite,
    ),
)
