"""One process of the benchmark: makes a network, then times one contender's calls on it.

    python -m benchmarks.ntk_peers.worker < request.json

Writes lines of JSON, each behind a mark, since peers print what they like. The parent watches the
time and the memory; this process only works.
"""

import contextlib
import copy
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ntk_peers import answers
from benchmarks.ntk_peers.cases import Case, find
from benchmarks.ntk_peers.contenders import CONTENDERS

MARK = "@worker "


def say(event: str, **values: Any) -> None:
    """One line to the parent."""
    print(f"{MARK}{json.dumps({'event': event, **values})}", flush=True)


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM, the peak of it, of this process; its ru_maxrss where there is no /proc.

    A new process inherits the ru_maxrss of its parent; VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if x.startswith(field)]
        return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Start VmHWM anew, so that compilation is not in it; without /proc it stays in."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Clock:
    """Process time, wall time and memory of a call on one device."""

    def __init__(self, device: str, torch: Any):
        self.cuda = torch.cuda if device == "cuda" and torch is not None else None
        if self.cuda is not None:
            self.cuda.reset_peak_memory_stats()
        self.baseline = self._peak(now=True)

    def _peak(self, *, now: bool) -> int:
        if self.cuda is None:
            return resident_bytes("VmRSS" if now else "VmHWM")
        return self.cuda.memory_allocated() if now else self.cuda.max_memory_allocated()

    def measure(self, call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """What the call returned, and what it took."""
        started, wall = time.process_time(), time.perf_counter()
        kernel = call()
        if self.cuda is not None:
            self.cuda.synchronize()
        took = {"process": time.process_time() - started, "wall": time.perf_counter() - wall}
        return kernel, {**took, "memory": self._peak(now=False) - self.baseline}


def prepare_torch(request: dict[str, Any], case: Case) -> tuple[Callable[[], Any], Any]:
    """The timed call of a contender that runs on PyTorch, and torch."""
    import torch

    from benchmarks.ntk_peers import torch_models

    torch.set_num_threads(request["threads"])
    # Float32 is what is measured; a GPU's convolutions would take TF32.
    torch.backends.cudnn.allow_tf32 = False
    net, x = torch_models.load(case, _stored(request), request["device"])
    contender = CONTENDERS[request["contender"]]
    adapter = importlib.import_module(f"benchmarks.ntk_peers.{contender.adapter}")
    function = getattr(adapter, contender.function)

    # What is imported late, on the first call, belongs to no kernel's memory.
    few = replace(case, n=min(2, case.n))
    function(copy.deepcopy(net), x[: few.n], few, request["config"], request["budget"])()
    return function(net, x, case, request["config"], request["budget"]), torch


def prepare_jax(request: dict[str, Any], case: Case) -> tuple[Callable[[], Any], Any]:
    """The timed call of neural-tangents."""
    if hasattr(os, "sched_setaffinity"):
        # XLA sizes its pool by the cores it may use.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[-request["threads"] :])
    from benchmarks.ntk_peers import neural_tangents_peer

    call = neural_tangents_peer.prepare(
        _stored(request), case, request["config"], request["device"]
    )
    return call, None


def _stored(request: dict[str, Any]) -> dict[str, np.ndarray]:
    with np.load(request["stored"]) as arrays:
        return dict(arrays)


def measure(request: dict[str, Any], case: Case) -> None:
    """A warm-up and a timed call; for tuning the second one only where it is needed."""
    contender = CONTENDERS[request["contender"]]
    call, torch = (prepare_jax if contender.compiles else prepare_torch)(request, case)
    versions = {name: importlib.metadata.version(name) for name in contender.distributions}
    clock = Clock(request["device"], torch)
    say("ready", versions=versions)
    kernel, took = clock.measure(call)
    say("warm", **took)
    if request["patient"] or took["wall"] < 10:
        del kernel
        forget_peak()
        kernel, took = clock.measure(call)
    # Before the answer is looked at: that takes memory, too.
    say("timed", **took)
    answers.store(answers.digest(np.asarray(_on_host(kernel)), case), Path(request["answer"]))
    say("done")


def _on_host(kernel: Any) -> Any:
    return kernel.cpu().numpy() if hasattr(kernel, "cpu") else kernel


def main() -> None:
    """Serve one request."""
    with contextlib.suppress(OSError):
        # Should the machine run out of memory, this process is the one to go.
        Path("/proc/self/oom_score_adj").write_text("1000")
    request = json.load(sys.stdin)
    try:
        if request["task"] == "products":
            from benchmarks.ntk_peers import matrix_products

            say("done", **matrix_products.best_rate(request["threads"], request["device"]))
            return
        case = find(request["case"], request["quick"])
        if request["task"] == "reference":
            from benchmarks.ntk_peers import reference

            reference.write(case, Path(request["stored"]), Path(request["answer"]))
            say("done")
            return
        measure(request, case)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        memory = isinstance(error, MemoryError) or any(
            sign in text.lower() for sign in ("out of memory", "can't allocate memory")
        )
        traceback.print_exc()
        say("failed", reason="out of memory" if memory else f"{type(error).__name__}: {text[:200]}")


if __name__ == "__main__":
    main()
