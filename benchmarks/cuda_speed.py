"""W1 to W6 on a GPU: the project's kernel against its peers' by turns, in one process.

    .venv-peers/bin/python -m benchmarks.cuda_speed [--workload W1-256] [--peer asdl] [--rounds 5]

A call on a GPU takes milliseconds and a process ten seconds to start, so that here, unlike in
`benchmarks.ntk`, all share a process. Every answer is held against a float64 block by plain
autograd, TensorFloat-32 is off for all, and each peer runs at the best of its block sizes.
"""

import argparse
import copy
import importlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ntk_peers import answers, matrix_products, reference, torch_models
from benchmarks.ntk_peers.cases import Case, chosen
from benchmarks.ntk_peers.contenders import CONTENDERS, PROJECT, Config, in_words
from benchmarks.ntk_peers.tables import ratio_interval
from benchmarks.ntk_peers.work import multiply_adds

PEERS = ("torch.func-contraction", "nngeometry", "asdl")
GIB = 2**30


@dataclass(frozen=True)
class Took:
    """One call: wall seconds, bytes of GPU memory above what was held before, and its error."""

    seconds: float
    memory: int
    error: float


class Runner:
    """One case with its network, inputs and truth on the GPU."""

    def __init__(self, case: Case):
        self.case = case
        net, x = torch_models.make(case)
        self.net, self.x = net.cuda(), x.cuda()
        self.truth = {"block": reference.block(case, "cuda")}

    def prepare(self, name: str, config: Config) -> Callable[[], Tensor]:
        """The call that is timed, warmed up on two samples."""
        contender = CONTENDERS[name]
        adapter = importlib.import_module(f"benchmarks.ntk_peers.{contender.adapter}")
        function = getattr(adapter, contender.function)
        few = replace(self.case, n=min(2, self.case.n))
        net = copy.deepcopy(self.net)  # peers hang hooks on what they are given
        function(copy.deepcopy(net), self.x[: few.n], few, config, None)()
        return function(net, self.x, self.case, config, None)

    def time(self, call: Callable[[], Tensor]) -> Took:
        """Time it once, by the clock on the wall."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, started = torch.cuda.memory_allocated(), time.perf_counter()
        kernel = call()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        memory = torch.cuda.max_memory_allocated() - before
        found = answers.digest(kernel.detach().cpu().numpy(), self.case)
        return Took(seconds, memory, answers.error(found, self.truth))

    def best(self, name: str, tries: int) -> tuple[Callable[[], Tensor], Config] | str:
        """A peer at the fastest of its ways that gives the right answer, or why there is none."""
        memory = int(0.6 * torch.cuda.get_device_properties(0).total_memory)
        found: list[tuple[float, Callable[[], Tensor], Config]] = []
        why, tried = "", dict[str, int]()
        for config in CONTENDERS[name].configs(self.case, memory):
            kind = json.dumps({k: v for k, v in config.items() if k != "samples"})
            tried[kind] = tried.get(kind, 0) + 1
            if tried[kind] > tries:
                continue
            try:
                call = self.prepare(name, config)
                call()  # what is compiled or chosen on a first call is in no time
                took = self.time(call)
            except Exception as error:
                why = f"{type(error).__name__}: {str(error)[:80]}".splitlines()[0]
                torch.cuda.empty_cache()
                continue
            if took.error > answers.WRONG:
                why = f"wrong by {took.error:.1e}"
            else:
                found.append((took.seconds, call, config))
        if not found:
            return why or "no way to try"
        _, call, config = min(found, key=lambda entry: entry[0])
        return call, config


def run(case: Case, peers: list[str], rounds: int, tries: int) -> dict[str, Any]:
    """All rounds of one case; prints a line for the project and each peer."""
    runner = Runner(case)
    mine = runner.prepare(PROJECT, {})
    mine()
    best = {name: runner.best(name, tries) for name in peers}
    own: list[Took] = []
    others: dict[str, list[Took]] = {name: [] for name in peers}
    ratios: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in peers:
            found = best[name]
            if isinstance(found, str):
                continue
            own.append(runner.time(mine))
            others[name].append(runner.time(found[0]))
            ratios[name].append(others[name][-1].seconds / own[-1].seconds)
    own = own or [runner.time(mine) for _ in range(rounds)]
    seconds = min(t.seconds for t in own)
    work = multiply_adds(case)
    rate = ""
    if work is not None:
        share = work / seconds / matrix_products.best_rate(1, "cuda")["wall"]
        rate = f", {work / seconds / 1e12:.2f} T multiply-adds/s, {share:.0%} of torch.mm"
    print(f"{case.name:<14} project {_brief(own)}{rate}", flush=True)
    for name in peers:
        found = best[name]
        if isinstance(found, str):
            print(f"{'':<14} {name}: {found}", flush=True)
            continue
        middle, low, high = ratio_interval(ratios[name])
        said = f"{name} ({in_words(found[1])}) {_brief(others[name])}"
        print(f"{'':<14} {said}: {middle:.3g} times [{low:.3g}, {high:.3g}]", flush=True)
    return {
        "case": case.name,
        "project": [vars(t) for t in own],
        "peers": {name: [vars(t) for t in took] for name, took in others.items()},
        "chosen": {n: f if isinstance(f, str) else f[1] for n, f in best.items()},
        "ratios": ratios,
    }


def _brief(took: list[Took]) -> str:
    best = min(t.seconds for t in took)
    most = max(t.memory for t in took) / GIB
    return f"{1e3 * best:.1f} ms, {most:.2f} GiB, error {max(t.error for t in took):.0e}"


def main() -> int:
    """0 if there is no GPU, or the project was right everywhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", nargs="+", default=[], help="beginnings of case names")
    parser.add_argument("--peer", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tries", type=int, default=4, help="block sizes of each method to try")
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    parser.add_argument("--json", type=Path, help="write all measurements there as they come")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was timed")
        return 0
    torch.backends.cudnn.allow_tf32 = False
    warnings.filterwarnings("ignore")
    device = torch.cuda.get_device_properties(0)
    print(
        f"{device.name}, {device.total_memory / GIB:.0f} GiB, torch {torch.__version__}. Best of "
        f"{options.rounds} rounds; ratios: peer's time over the project's of the same round, "
        "geometric mean and 95 % t interval. Memory beside what was held before the call."
    )
    done = []
    for case in chosen(options.workload, options.quick):
        done.append(run(case, options.peer, options.rounds, options.tries))
        torch.cuda.empty_cache()
        if options.json:
            options.json.write_text(json.dumps(done, indent=1))
    wrong = [d["case"] for d in done if max(t["error"] for t in d["project"]) > answers.WRONG]
    if wrong:
        print(f"the project's kernel is WRONG on {', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
