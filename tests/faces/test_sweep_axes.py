"""Words to runs: axes, ranges, what is refused, and that the list is the same every time."""

import itertools
import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkscale.experiments import EXPERIMENTS
from ntkscale.faces import analyze, train
from ntkscale.faces.sweep.axes import in_one_run, plan
from ntkscale.faces.sweep.folder import SweepFolder, inspect, open_sweep, read_sweep, sweep_path
from ntkscale.faces.sweep.options import Launch, take_launch
from ntkscale.faces.sweep.schedule import Status
from ntkscale.faces.sweep.table import Board
from ntkscale.runs import RunFolderError

COMMANDS = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}

numbers = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4, unique=True)
ranges = st.tuples(st.integers(-5, 5), st.integers(0, 5))


@settings(deadline=None, max_examples=50)
@given(gamma0=numbers, start=ranges, width=st.lists(st.integers(1, 99), min_size=1, unique=True))
def test_the_product_in_the_order_typed(
    gamma0: list[float], start: tuple[int, int], width: list[int]
) -> None:
    first, more = start
    seeds = [str(seed) for seed in range(first, first + more + 1)]
    words = ["circle", "--seed", f"{first}..{first + more}", "--width", *map(str, width)]
    words += ["--gamma0", ",".join(map(repr, gamma0))] if len(gamma0) > 1 else []
    found = plan(words, COMMANDS)
    assert found == plan(words, COMMANDS)
    richness = [axis.values for axis in found.axes if axis.option == "gamma0"] or [("",)]
    expected = list(itertools.product(seeds, *richness))
    points = found.points
    assert len(points) == len(expected) == len({point.name for point in points})
    for point, (seed, value) in zip(points, expected, strict=True):
        assert point.options["seed"] == (seed,)
        assert point.options["width"] == tuple(map(str, width))
        assert not value or float(point.options["gamma0"][0]) in gamma0
        assert "/" not in point.name
    read = train._settings(["circle", *points[-1].words()])
    assert read.seed == (int(seeds[-1]),)  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_split_is_decided_by_the_type() -> None:
    words = ["images", "--data", "a,b.npz", "--model", "mlp,cnn", "--classes", "0", "1"]
    words += ["--quick", "--steps=10,20"]
    found = plan([*words, "--activation", "relu", "--wandb", "disabled"], COMMANDS)
    assert [axis.option for axis in found.axes] == ["model", "steps"]
    assert found.fixed["data"] == ("a,b.npz",)
    assert found.fixed["classes"] == ("0", "1")
    assert found.fixed["quick"] == ()
    assert found.beside == ("--wandb", "disabled")
    assert found.points[1].name == "model=mlp,steps=20"
    pairs = plan(["adversarial-kernel", "--pairs", "0,1", "2,3"], COMMANDS)
    assert not pairs.axes


def test_without_a_launcher_they_are_the_values_of_one_run() -> None:
    words = ["circle", "--seed", "0..2", "7", "--gamma0=0.1,1", "--phases", "aligned,random"]
    one = ["circle", "--seed", "0", "1", "2", "7", "--gamma0", "0.1", "1"]
    one += ["--phases", "aligned", "random", "--name", "a,b"]
    assert in_one_run([*words, "--name", "a,b"], COMMANDS) == one
    with pytest.raises(ValueError, match=r"--steps 10,20 .* --launcher local"):
        in_one_run(["circle", "--steps", "10,20"], COMMANDS)


def test_the_options_of_a_sweep_stand_anywhere() -> None:
    words = "circle --jobs 2 --seed 0..1 --launcher=submitit --slurm a=1 b=2 --quick --sweep x"
    found, rest = take_launch(words.split(), program="train.py")
    assert rest == ["circle", "--seed", "0..1", "--quick"]
    assert found == Launch("submitit", "x", 2, slurm=("a=1", "b=2"))
    own = set(Launch.__dataclass_fields__)
    for name, kind in COMMANDS.items():
        assert not own & set(kind.__dataclass_fields__), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("circle --seed 0..4 --launcher locl", ["--launcher", "locl"]),
        ("circle --seed 0..4 --sweep x", ["--sweep is for sweeps", "--launcher"]),
        ("circle --jobs -1 --launcher local", ["--jobs -1"]),
        ("circle --jobs two --launcher local", ["--jobs", "two"]),
        ("circle --launcher local --slurm partition=x", ["--slurm", "submitit"]),
        ("circle --launcher submitit --slurm partitin=x --cluster local", ["no partitin"]),
        ("circle --launcher submitit --slurm partition", ["KEY=VALUE"]),
        ("circle --launcher submitit --slurm time=1h", ["time=1h", "whole number of minutes"]),
        ("circle --seed 4..0 --launcher local", ["--seed 4..0", "go up"]),
        ("circle --gamma0 0.1..0.5 --launcher local", ["--gamma0 0.1..0.5", "whole numbers"]),
        ("circle --gamma0 0.1,,1 --launcher local", ["--gamma0 0.1,,1", "empty"]),
        ("circle --gamma0 0.1,x --launcher local", ["--gamma0: x is no number"]),
        ("circle --width 1.5,2 --launcher local", ["1.5 is no whole number"]),
        ("circle --seed 0,0..2 --launcher local", ["--seed has a value twice"]),
        ("circle --seed 0 1..2 --launcher local", ["--seed 0 1..2", "one of the two"]),
        ("circle --seed 0 --seed 1 --launcher local", ["--seed is given twice"]),
        ("circle --seed 0..9999 --width 1..9999 --launcher local", ["at most 10,000"]),
        ("circle --name x --seed 0..1 --launcher local", ["--name", "--sweep"]),
        ("circle --seed 0..1 --sweep a/b --launcher local", ["--sweep a/b", "--runs"]),
        ("circle x --seed 0..1 --launcher local", ["x stands before any option"]),
        ("circle --width 64,100 --launcher local", ["width", "256", "in the run width=100"]),
        ("circle --wdth 3,4 --launcher local", ["unknown option --wdth"]),
        ("circle --init ring,square --launcher local", ["square"]),
        ("squares --seed 0..1 --launcher local", ["squares is no experiment"]),
        ("--launcher local", ["no experiment was named"]),
        ("dmft --seed 0..1 --launcher torchrun", ["dmft does not spread over torchrun's"]),
        ("circle --seed 0..1 --export grid.txt", ["--export grid.txt", ".yaml"]),
        ("circle --seed 0 --export grid.yaml", ["nothing to vary"]),
        ("circle --seed 0..100000", ["--seed 0..100000", "fewer than"]),
        ("circle --horizon 1,2", ["--horizon 1,2", "--launcher local"]),
    ],
)
def test_refused_before_anything_is_written(
    words: str,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "submitit" in words:
        pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.chdir(tmp_path)
    if "width=100" in str(said):
        words += " --angles 32"
        said = ["100", "in the run width=100"]
    try:
        code = train.main(words.split())
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1, captured.err
    for part in said:
        assert part in captured.err
    assert not list(tmp_path.iterdir())


def test_a_missing_submitit_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    assert train.main(["circle", "--seed", "0..1", "--launcher", "submitit"]) == 2
    assert "pip install 'ntkscale[sweeps]'" in capsys.readouterr().err


def sweep(tmp_path: Path, words: str) -> SweepFolder:
    asked = plan(words.split(), COMMANDS)
    folder, lock = open_sweep(tmp_path / "sweeps" / "s", asked)
    lock.release()
    return folder


def test_the_list_on_disk_is_the_list(tmp_path: Path) -> None:
    words = "circle --gamma0 0.1,1 --lazy 0 --seed 0..1"
    folder = sweep(tmp_path, words)
    before = (folder.path / "sweep.json").read_bytes()
    assert read_sweep(folder.path).plan == folder.plan
    # What decides no result, and the order of what does not vary, may change.
    sweep(tmp_path, "circle --gamma0 0.1,1.0 --seed 0..1 --lazy 0 --wandb disabled --workers 2")
    assert (folder.path / "sweep.json").read_bytes() == before
    for other in ("circle --gamma0 0.1,1 --lazy 0 --seed 0..2", "circle --seed 0..1 --lazy 0"):
        with pytest.raises(RunFolderError, match="another list") as error:
            inspect(folder.path, plan(other.split(), COMMANDS))
        assert "gamma0=0.1,1 seed=0,1" in str(error.value)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(RunFolderError, match=r"holds no sweep\.json"):
        inspect(tmp_path / "other", folder.plan)
    one, two = (plan(f"circle --seed 0..{n}".split(), COMMANDS) for n in (1, 2))
    assert sweep_path(one, "") == sweep_path(one, "") != sweep_path(two, "")
    with (tmp_path / "sweeps" / "s" / "events.jsonl").open("w") as file:
        file.write('{"point": "a"}\n{"poi')
    assert folder.events() == [{"point": "a"}]


@pytest.mark.parametrize("version", [2, None])
def test_the_list_of_another_version_is_that_of_a_sweep(
    version: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep(tmp_path, "circle --seed 0..1")
    listed = json.loads((folder.path / "sweep.json").read_text())
    (folder.path / "sweep.json").write_text(json.dumps({**listed, "version": version}))
    assert analyze.main([str(folder.path)]) == 2
    said = capsys.readouterr().err
    assert "sweep.json" in said and "the sweep" in said and " run" not in said


def test_one_launcher_at_a_time(tmp_path: Path) -> None:
    asked = plan(["circle", "--seed", "0..1"], COMMANDS)
    _, lock = open_sweep(tmp_path / "s", asked)
    with pytest.raises(RunFolderError):
        open_sweep(tmp_path / "s", asked)
    lock.release()


def test_the_table_fits_the_terminal(tmp_path: Path) -> None:
    folder = sweep(tmp_path, "circle --seed 0..99")
    statuses = [Status(point) for point in folder.plan.points]
    for status in statuses[:40]:
        status.state, status.seconds = "done", 10.0
    statuses[50].state, statuses[50].attempts = "running", 2
    statuses[60].state, statuses[60].note = "failed", "--width [5] is odd"
    run = folder.run(statuses[50].point)
    run.mkdir(parents=True)
    (run / "results.json").write_text('{"results": {"a": {}}}')
    (run / "metrics.jsonl").write_text('{"step": 7, "mse": 0.25}\n{"step": 8, "ms')
    board = Board(folder, 2)
    with board._console.capture() as capture:
        board._console.print(board.draw(statuses, 24))
    said = capture.get()
    assert len(said.splitlines()) <= 24
    assert "start 2  1 cell done, step 7, mse 0.25" in said
    assert "--width [5] is odd" in said
    assert "40 of 100 done, 1 running, 1 failed, 58 waiting, about" in said
    assert "seed=99" not in said


def test_runs_beyond_the_others_tell_no_time_left(tmp_path: Path) -> None:
    folder = sweep(tmp_path, "circle --seed 0..1")
    done, running = (Status(point) for point in folder.plan.points)
    done.state, done.seconds = "done", 10.0
    running.state = "running"
    board = Board(folder, 2)
    for seconds, said in ((4, ", about 0:06 left"), (40, "")):
        running.began = time.monotonic() - seconds
        assert board.whole([done, running]) == f"1 of 2 done, 1 running{said}"


def test_the_exported_sweep_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "circle --gamma0 0.00001,0.1,1 --seed 0..2 --init gaussian,ring --width 256 512"
    target = tmp_path / "grid.yaml"
    assert train.main([*words.split(), "--wandb", "online", "--export", str(target)]) == 0
    assert f"18 runs; start them by: wandb sweep {target}" in capsys.readouterr().out
    found = yaml.safe_load(target.read_text())
    assert found["program"] == "ntkscale.faces.train" and found["method"] == "grid"
    values = {name: axis["values"] for name, axis in found["parameters"].items()}
    assert values == {"gamma0": [1e-5, 0.1, 1], "seed": [0, 1, 2], "init": ["gaussian", "ring"]}
    command = found["command"]
    assert command[:5] == ["${env}", "${interpreter}", "-m", "${program}", "circle"]
    assert command[-1] == "${args}"
    # What an agent types is a command of train.py.
    typed = [*command[4:-1], *(f"--{name}={axis[0]}" for name, axis in values.items())]
    read = train._settings(typed)
    assert read.width == (256, 512)  # pyright: ignore[reportAttributeAccessIssue]
    assert read.gamma0 == (1e-5,)  # pyright: ignore[reportAttributeAccessIssue]
