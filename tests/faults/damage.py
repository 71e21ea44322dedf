"""Files that were cut short, emptied, or in which a bit has turned."""

import itertools
import random
import shutil
from functools import partial
from pathlib import Path

from ntkscale import runs
from ntkscale.faces import analyze
from ntkscale.runs import Run, RunFolderError
from ntkscale.runs.metrics import JsonLines
from tests.faults.row import Bench, Row
from tests.faults.toys import circle, contents, different, ended, run_of, saving_often, whole

KINDS = (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "timing.jsonl",
    "results.json",
    "checkpoints/last.safetensors",
    "kernels/manifest.json",
    "kernels/*/*.safetensors",
    "weights/manifest.json",
    "weights/*.safetensors",
)
FACTS = ("environment.json", "timing.jsonl")
"""Where and how fast a run was computed: nothing is computed from them."""

HOW = ("cut short", "emptied", "a bit turned")


def damaged(run: Path, kind: str, how: str, draw: random.Random) -> Path | None:
    """Damage one file of that kind; which, or None where there is none."""
    there = sorted(path for path in run.glob(kind) if path.stat().st_size)
    if not there:
        return None
    path = draw.choice(there)
    content = bytearray(path.read_bytes())
    if how == "cut short":
        content = content[: draw.randrange(1, len(content))]
    elif how == "emptied":
        content.clear()
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return path


def no_row_after(count: int) -> None:
    """Let this process write so many rows of metrics and no more; it saves its state often."""
    saving_often(0.0)()
    append, left = JsonLines.append, itertools.count(count, -1)

    def limited(lines: JsonLines, row: dict[str, object]) -> None:
        if lines.path.name == "metrics.jsonl" and next(left) <= 0:
            raise OSError(5, "Input/output error", str(lines.path))
        append(lines, row)

    JsonLines.append = limited  # type: ignore[method-assign]


def everything(run: Run) -> list[object]:
    """All that a run says and that something may be computed from."""
    kernels = {
        key: {name: tensor.numpy().tobytes() for name, tensor in run.kernels[key].items()}
        for key in run.kernels
    }
    weights = {
        cell: {
            name: tensor.detach().numpy().tobytes() for name, tensor in run.weights(cell).items()
        }
        for cell in run.weighted
    }
    rows = run.metrics.write_json()
    return [run.config, rows, kernels, weights, run.results, run.finished]


def check_finished(bench: Bench) -> str:
    """Read in the process: either all is as it was, or one sentence names the file."""
    words = circle(bench.folder / "runs")
    assert ended(words).code == 0
    run, copy = run_of(words), bench.folder / "copy"
    expected = everything(runs.load(run))
    refused = equal = 0
    for kind in KINDS:
        for how in HOW:
            for _ in range(1 if how == "emptied" else bench.times(3, 40)):
                shutil.copytree(run, copy)
                path = damaged(copy, kind, how, bench.draw)
                assert path is not None, f"a finished run has no {kind}"
                where = f"{path.relative_to(copy)} {how}"
                try:
                    found = everything(runs.load(copy))
                    assert found == expected, f"{where}: read as if it were whole"
                    equal += 1
                except RunFolderError as error:
                    said = str(error)
                    assert kind != "environment.json", f"nothing is computed from it: {said}"
                    assert str(copy) in said and "\n" not in said, f"{where}: {said}"
                    refused += 1
                shutil.rmtree(copy)
    # The command line says the same.
    for kind in KINDS[: bench.times(0, 99)]:
        shutil.copytree(run, copy)
        path = damaged(copy, kind, "cut short", bench.draw)
        done = ended([str(copy)], program=analyze)
        assert done.code in (0, 2), f"{path}: exit code {done.code}, {done.said}"
        if done.code:
            done.one_sentence()
        shutil.rmtree(copy)
    return f"{refused} refused in one sentence, {equal} read with every number right"


def check_unfinished(bench: Bench) -> str:
    """The same command refuses, or ends with the same bits; or what it did not need is refused."""
    words = circle(bench.folder / "whole")
    expected = whole(words)
    began = circle(bench.folder / "began")
    # The first cell is done, the second under way.
    rows = expected["metrics.jsonl"].count(b"\n") * 3 // 4
    assert ended(began, prepare=partial(no_row_after, rows)).code == 2
    assert (run_of(began) / "checkpoints/last.safetensors").exists()
    refused = equal = later = 0
    chosen = [(kind, how) for kind in KINDS for how in HOW]
    if bench.small:
        chosen = bench.draw.sample(chosen, 4)
    for number, (kind, how) in enumerate(chosen * bench.times(1, 2)):
        words = circle(bench.folder / f"copy{number}")
        shutil.copytree(run_of(began), run_of(words))
        path = damaged(run_of(words), kind, how, bench.draw)
        if path is None:
            continue
        where = f"{path.relative_to(run_of(words))} {how}"
        done = ended(words)
        assert done.code in (0, 2), f"{where}: exit code {done.code}, {done.said}"
        if done.code == 2:
            said = done.one_sentence()
            assert path.name in said or "another configuration" in said, f"{where}: {said}"
            refused += 1
        elif not different(contents(run_of(words)), expected):
            equal += 1
        else:
            try:
                everything(runs.load(run_of(words)))
            except RunFolderError as error:
                assert path.name in str(error), f"{where}: {error}"
                later += 1
            else:
                raise AssertionError(f"{where}: went on to other numbers")
    return f"{refused} refused, {equal} ended with the same bits, {later} refused when read"


def check_pages(bench: Bench) -> str:
    """Figures and pages are made anew from the numbers."""
    words = circle(bench.folder / "runs")
    done = ended(words, judged=True)
    assert done.code == 0, done.said
    run = run_of(words)
    made = [run / "report.html", *sorted((run / "figures").iterdir())]
    expected = {path: path.read_bytes() for path in made}
    for how in HOW:
        for kind in ("report.html", "figures/*.png", "figures/*.pdf", "figures/*.json"):
            damaged(run, kind, how, bench.draw)
        done = ended([str(run)], program=analyze)
        assert done.code == 0, f"{how}: {done.said}"
        wrong = [path.name for path, content in expected.items() if path.read_bytes() != content]
        assert not wrong, f"{how}: {wrong} differ"
    return f"{len(made)} files {len(HOW)} times damaged and made anew, byte for byte"


ROWS = (
    Row(
        "files of a finished run cut short, emptied, a bit turned",
        "one sentence that names the file, or every number is right",
        check_finished,
    ),
    Row(
        "files of a killed run cut short, emptied, a bit turned",
        "refused in one sentence, or the same bits at the end",
        check_unfinished,
    ),
    Row(
        "figures and report damaged in the same ways",
        "analyze.py makes them anew, byte for byte",
        check_pages,
        in_suite=False,
    ),
)
