"""The printed result: ratios with intervals, memory, and the share of the machine's rate."""

import math
import statistics
from typing import Any

from scipy import stats

from benchmarks.ntk_peers import answers
from benchmarks.ntk_peers.cases import Case, cases
from benchmarks.ntk_peers.contenders import CONTENDERS, PROJECT, in_words
from benchmarks.ntk_peers.work import multiply_adds

Record = dict[str, Any]
MIB = 2**20


def ratio_interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % t interval over rounds; without width for one round."""
    logs = [math.log(ratio) for ratio in ratios]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(middle), math.nan, math.nan
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def show(results: dict[str, Any]) -> None:
    """Print everything a run found."""
    options = results["options"]
    clock = clock_of(options["device"])
    print(f"\n{results['machine']}")
    print(
        f"rounds: {options['rounds']}; seconds are {clock} time; ratio = contender / project, "
        "geometric mean and 95 % t interval over rounds; memory is the peak above what the "
        "network and the imports take"
    )
    for case in cases(options["quick"]):
        if case.name not in results["chosen"]:
            continue
        for threads in options["threads"]:
            _show_case(results, case, threads, clock)
    _show_versions(results)


def clock_of(device: str) -> str:
    """The time that counts: a GPU's work is in no process time."""
    return "wall" if device == "cuda" else "process"


def _show_case(results: dict[str, Any], case: Case, threads: int, clock: str) -> None:
    rows = [r for r in results["rounds"] if r["case"] == case.name and r["threads"] == threads]
    print(f"\n{case.name}: {case.title}, n = {case.n}, {case.output}; {threads} thread(s)")
    print(
        f"  {'contender':<23}{'seconds':>9}{'wall':>9}{'ratio':>9} {'[95 %]':<17}{'MiB':>7}"
        f"{'error':>9}  configuration"
    )
    mine = [r for r in rows if r["contender"] == PROJECT]
    for name in CONTENDERS:
        choice = results["chosen"][case.name].get(name)
        if choice is None:
            continue
        if "config" not in choice:
            bound = _bound(choice, mine, clock)
            print(f"  {name:<23}{bound}{choice['reason']}")
            continue
        own = [r for r in rows if r["contender"] == name]
        good = [r for r in own if r["status"] == "ok"]
        if not good:
            print(f"  {name:<23}  {own[-1]['reason'] if own else 'not measured'}")
            continue
        print(f"  {name:<23}{_cells(name, good, clock)}  {in_words(choice['config'])}")
    good = [r for r in mine if r["status"] == "ok"]
    if good:
        _show_project(results, case, threads, good, clock)


def _bound(choice: Record, mine: list[Record], clock: str) -> str:
    """For a contender that ran out of time: how much slower it is at least."""
    times = [r[clock] for r in mine if r["status"] == "ok"]
    if choice["status"] != "time" or not times or "limit" not in choice:
        return "  "
    return f"  ratio > {choice['limit'] / statistics.median(times):.3g}: "


def _cells(name: str, good: list[Record], clock: str) -> str:
    seconds = statistics.median(r[clock] for r in good)
    wall = statistics.median(r["wall"] for r in good)
    ratio = f"{1:>9} {'':<17}"
    if name != PROJECT:
        middle, low, high = ratio_interval([r[clock] / r[f"project_{clock}"] for r in good])
        interval = "" if math.isnan(low) else f"[{low:.3g}, {high:.3g}]"
        ratio = f"{middle:>9.3g} {interval:<17}"
    memory = statistics.median(r["memory"] for r in good) / MIB
    worst = max(r["error"] for r in good)
    wrong = " WRONG" if worst > answers.WRONG else ""
    return f"{seconds:>9.3g}{wall:>9.3g}{ratio}{memory:>7.0f}{worst:>9.1e}{wrong}"


def _show_project(
    results: dict[str, Any], case: Case, threads: int, good: list[Record], clock: str
) -> None:
    budget, kernel = results["options"]["budget"], case.kernel_bytes / MIB
    memory = max(r["memory"] for r in good) / MIB
    print(
        f"  project's memory: {memory:.0f} MiB for a budget of {budget} MiB beside a kernel of "
        f"{kernel:.0f} MiB"
    )
    work = multiply_adds(case)
    rates = [r[clock] for r in results["products"] if r["threads"] == threads]
    if work is None or not rates:
        return
    reached = [work / r[clock] for r in good]
    rate, mine = statistics.median(rates), statistics.median(reached)
    print(
        f"  multiply-adds: {work:.3g}; project {mine / 1e9:.1f} billion a second of {clock} time, "
        f"matrix products {rate / 1e9:.1f}: {mine / rate:.0%}"
    )


def _show_versions(results: dict[str, Any]) -> None:
    print("\nversions")
    for name, versions in results["versions"].items():
        print(f"  {name:<23}{', '.join(f'{k} {v}' for k, v in versions.items())}")
    print("neural-tangents: compile time is left out; all others compile nothing.")
