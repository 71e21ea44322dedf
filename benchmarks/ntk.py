"""The project's kernel against its peers': time, memory, right answers, and the machine's rate.

    make bench-environment                                     # the peers' environments, once
    python -m benchmarks.ntk --quick                           # a smoke test on tiny networks
    python -m benchmarks.ntk --workload W1-256 W3 --peer asdl --threads 1 2 --rounds 5

Every measurement is a fresh process that makes the network, calls once to warm up, and then is
timed on one call. Project and peers alternate. How to read it: benchmarks/README.md.
"""

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ntk_peers import answers, tables
from benchmarks.ntk_peers.cases import Case, cases, chosen
from benchmarks.ntk_peers.contenders import CONTENDERS, PEERS, PROJECT, Config, in_words
from benchmarks.ntk_peers.processes import Limits, Outcome, run

GIB = 2**30


def progress(text: str) -> None:
    """One line on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Bench:
    """One run: its options, its temporary folder, and what it has found."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options = options
        self.folder = folder
        self.limits = Limits(options.limit_seconds, int(options.limit_gib * GIB))
        shown = ("rounds", "threads", "device", "quick", "budget", "limit_seconds", "limit_gib")
        self.results: dict[str, Any] = {
            "machine": machine(),
            "options": {name: getattr(options, name) for name in shown},
            "tuning": {},
            "chosen": {},
            "rounds": [],
            "products": [],
            "versions": {},
        }
        self.truths: dict[str, list[answers.Answer]] = {}

    def measure(
        self, name: str, case: Case, config: Config, threads: int, *, patient: bool, seconds: float
    ) -> Outcome:
        """One contender on one case in a worker, its answer checked."""
        contender = CONTENDERS[name]
        answer = self.folder / "answer.npz"
        request = self._request(case, threads, answer) | {
            "task": "measure",
            "contender": name,
            "config": config,
            "budget": self.options.budget * 2**20,
            "patient": patient,
        }
        limits = Limits(seconds, self.limits.memory)
        outcome = run(request, contender.environment, limits, compiles=contender.compiles)
        if "versions" in outcome:
            self.results["versions"][name] = outcome.pop("versions")
        if outcome["status"] == "ok":
            found = answers.load(answer)
            outcome["error"] = max(answers.error(found, t) for t in self.truths[case.name])
            if name == PROJECT and len(self.truths[case.name]) == 1:
                self.truths[case.name].append(found)
        answer.unlink(missing_ok=True)
        return outcome

    def _request(self, case: Case, threads: int, answer: Path) -> dict[str, Any]:
        return {
            "case": case.name,
            "quick": self.options.quick,
            "threads": threads,
            "device": self.options.device,
            "stored": str(self.folder / f"{case.model}.npz"),
            "answer": str(answer),
        }

    def prepare(self, case: Case) -> None:
        """Weights, inputs, a float64 block, and the project's answer, which others are held to."""
        answer = self.folder / "reference.npz"
        request = self._request(case, max(self.options.threads), answer) | {"task": "reference"}
        outcome = run(request, ".venv", Limits(600, self.limits.memory), compiles=False)
        if outcome["status"] != "ok":
            raise SystemExit(f"{case.name}: the reference failed: {outcome['reason']}")
        self.truths[case.name] = [answers.load(answer)]
        threads = self.options.threads[0]
        mine = self.measure(PROJECT, case, {}, threads, patient=False, seconds=self.limits.seconds)
        progress(f"{case.name} project: {brief(mine)}")
        choice = {"config": {}} if mine["status"] == "ok" else mine
        self.results["chosen"][case.name] = {PROJECT: choice}

    def tune(self, name: str, case: Case) -> dict[str, Any]:
        """The fastest right configuration, or why there is none."""
        threads, clock = self.options.threads[0], tables.clock_of(self.options.device)
        tried: list[dict[str, Any]] = []
        configs = CONTENDERS[name].configs(case, self.limits.memory)
        for config in few_of_each(configs, self.options.tries, skip=self.options.quick):
            good = [t for t in tried if right(t)]
            # What takes three times as long as the best so far need not be waited for.
            best = min((t[clock] for t in good), default=self.limits.seconds)
            seconds = min(self.limits.seconds, 3 * best + 1)
            outcome = self.measure(name, case, config, threads, patient=False, seconds=seconds)
            tried.append({"config": config, **outcome})
            progress(f"{case.name} {name}, {in_words(config)}: {brief(outcome)}")
            if outcome["status"] == "absent":
                break
        self.results["tuning"].setdefault(case.name, {})[name] = tried
        good = [t for t in tried if right(t)]
        if good:
            best = min(good, key=lambda t: t[clock])
            return {"config": best["config"]}
        return verdict(tried)

    def round(self, number: int, threads: int, case: Case) -> None:
        """The project and each peer in turn."""
        rate = run(
            self._request(case, threads, self.folder / "none") | {"task": "products"},
            ".venv",
            self.limits,
            compiles=False,
        )
        if rate["status"] == "ok":
            self.results["products"].append({"round": number, "threads": threads, **rate})
        names = self.results["chosen"][case.name]
        peers = [n for n in names if n != PROJECT and "config" in names[n]]
        for name in peers or [None]:
            mine = self._timed(PROJECT, number, threads, case)
            if name is None or mine["status"] != "ok":
                continue
            own = self._timed(name, number, threads, case)
            own |= {"project_process": mine["process"], "project_wall": mine["wall"]}

    def _timed(self, name: str, number: int, threads: int, case: Case) -> dict[str, Any]:
        config = self.results["chosen"][case.name][name].get("config", {})
        outcome = self.measure(
            name, case, config, threads, patient=True, seconds=self.limits.seconds
        )
        progress(f"round {number}, {case.name}, {threads} thread(s), {name}: {brief(outcome)}")
        where = {"round": number, "threads": threads, "case": case.name, "contender": name}
        self.results["rounds"].append(where | outcome)
        return self.results["rounds"][-1]


def few_of_each(configs: list[Config], tries: int | None, *, skip: bool) -> list[Config]:
    """The first block sizes of each method; with `skip` the second alone, which has two blocks."""
    methods: dict[str, list[Config]] = {}
    for config in configs:
        rest = {key: value for key, value in config.items() if key != "samples"}
        methods.setdefault(str(rest), []).append(config)
    return [
        config
        for sizes in methods.values()
        for config in (sizes[1:2] or sizes if skip else sizes[:tries])
    ]


def right(outcome: Outcome) -> bool:
    """Whether it finished with the right kernel."""
    return outcome["status"] == "ok" and outcome["error"] <= answers.WRONG


def verdict(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """Why no configuration will do, in the words of the most telling one."""
    wrong = [t for t in tried if t["status"] == "ok"]
    if wrong:
        least = min(t["error"] for t in wrong)
        return {"status": "wrong", "reason": f"WRONG: off by {least:.2g} of the largest entry"}
    late = [t for t in tried if t["status"] == "time"]
    if late:
        return {key: late[0][key] for key in ("status", "reason", "limit") if key in late[0]}
    reasons = list(dict.fromkeys(t["reason"] for t in tried))
    return {"status": tried[0]["status"], "reason": "; ".join(reasons[:2])}


def brief(outcome: Outcome) -> str:
    """An outcome in a few words."""
    if outcome["status"] != "ok":
        return outcome["reason"]
    flag = "" if right(outcome) else " WRONG"
    return (
        f"{outcome['process']:.3g} s process, {outcome['wall']:.3g} s wall, "
        f"{outcome['memory'] / 2**20:.0f} MiB, error {outcome['error']:.1e}{flag}"
    )


def machine() -> str:
    """Processor, system and Python in a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(names)} x {names[0]}" if names else platform.processor()
    return f"{cores}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ntk", description=(__doc__ or "").split("\n")[0]
    )
    names = ", ".join(case.name for case in cases(False))
    parser.add_argument("--workload", nargs="+", default=[], help=f"beginnings of {names}")
    parser.add_argument("--peer", nargs="+", default=PEERS, choices=[*PEERS, "none"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="tiny networks: a smoke test")
    parser.add_argument("--tries", type=int, help="block sizes of each method to try; default all")
    parser.add_argument("--budget", type=int, default=1024, help="the project's memory=, in MiB")
    parser.add_argument(
        "--limit-seconds", type=float, default=120.0, help="of one call, process time"
    )
    parser.add_argument("--limit-gib", type=float, default=12.0, help="memory of one worker")
    parser.add_argument("--json", type=Path, help="write all measurements there as they come")
    parser.add_argument("--tuned", type=Path, help="take the peers' choices from such a file")
    parser.add_argument("--show", type=Path, help="only print the tables of such a file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Tune, measure, print; 1 if the project's own kernel was wrong or missing."""
    options = parse(arguments)
    # A terminated run ends its worker and removes its files, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.show:
        tables.show(json.loads(options.show.read_text()))
        return 0
    peers = [name for name in options.peer if name != "none"]
    tuned = json.loads(options.tuned.read_text())["chosen"] if options.tuned else {}
    with tempfile.TemporaryDirectory(prefix="ntk-bench-") as folder:
        bench = Bench(options, Path(folder))
        wanted = chosen(options.workload, options.quick)

        def save() -> None:
            if options.json:
                options.json.write_text(json.dumps(bench.results, indent=1))

        for case in wanted:
            bench.prepare(case)
            found = bench.results["chosen"][case.name]
            for name in peers:
                found[name] = tuned.get(case.name, {}).get(name) or bench.tune(name, case)
                save()
        for number in range(1, options.rounds + 1):
            for threads in options.threads:
                for case in wanted:
                    bench.round(number, threads, case)
                    save()
        tables.show(bench.results)
    own = [r for r in bench.results["rounds"] if r["contender"] == PROJECT]
    return int(not all(right(r) for r in own))


if __name__ == "__main__":
    sys.exit(main())
