"""Files from strangers: a few of every format of `make fuzz`, and every way in that was open."""

import gzip
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ntkscale.faces import analyze, train
from ntkscale.faces.sweep.folder import LIST, read_sweep
from ntkscale.ntk.tiles import verify
from ntkscale.reporting import Table, report_charts, show
from ntkscale.reporting.figure_data import HeatMap
from ntkscale.runs import RunFolderError, folder, load, open_run
from ntkscale.tasks import arrays
from ntkscale.tasks.cifar5m import read_cifar5m
from ntkscale.tasks.idx import read_idx
from tests.faults.fuzz import FORMATS, read_one, read_sound
from tests.faults.fuzz_arrays import npy_bytes
from tests.faults.fuzz_formats import Format
from tests.faults.fuzz_runs import CONFIG, run_files
from tests.faults.fuzz_watch import Violation, Watch
from tests.ntk.tiles_problem import Job


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.chdir(tmp_path)  # and back, when the test is over
    monkeypatch.setattr(folder, "environment", folder.environment)
    monkeypatch.setattr(report_charts, "_library", report_charts._library)
    return Watch(tmp_path)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_hostile_files_are_refused_in_a_sentence_or_read_as_they_are(
    form: Format, watch: Watch
) -> None:
    read_sound(form, watch)

    @settings(
        max_examples=30, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(number=st.integers(0, 10**9))
    def some(number: int) -> None:
        read_one(form, watch, 0, number)

    some()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name, content in run_files().items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "run"


def edited(path: Path, edit: Callable[[Any], None]) -> None:
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version": 1, "a": ' + "[" * 99 + "]" * 99 + "}", "64 lists are within"),
        ('{"version": 1, "a": ' + "[" * 99_999, "64 lists are within"),
        ('{"version": 1, "a": NaN}', "NaN is not JSON"),
        ('{"version": 1, "a": 1e999}', "out of range"),
        ('{"version": 1, "a": 1' + "0" * 30 + "}", "out of range"),
        ('{"version": 1, "a": 1, "a": 2}', "key is there twice"),
        ('{"version": 1, "a": "\\ud800"}', "it is not text"),
        ('{"version": true}', "no version in it"),
    ],
)
def test_json_that_is_out_of_bounds(run: Path, text: str, why: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=why):
        load(run)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "results.json", "timing.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "hole"])
def test_what_is_no_file_or_far_too_large_is_not_waited_for(
    run: Path, name: str, kind: str
) -> None:
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        with (run / name).open("wb") as file:
            file.truncate(1 << 40)
    began = time.monotonic()
    with pytest.raises(RunFolderError, match=name):
        load(run)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "../../outside"}, {"cell": "a\x1b[2J"}, {"cell": ["b=1"]}, {"step": -1},
        {"step": True}, {"step": None}, {"bytes": "1"}, {"sha256": 5},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["kernels", "weights"])
def test_manifests_list_only_what_a_run_writes(run: Path, kind: str, change: dict) -> None:
    def edit(content: Any) -> None:
        key, entry = content["files"].popitem()
        entry |= change
        cell, step = entry["cell"], entry.get("step")
        content["files"][f"{cell}/{step}.safetensors" if kind == "kernels" else key] = entry

    edited(run / kind / "manifest.json", edit)
    with pytest.raises(RunFolderError, match="lists no files, or others than a run writes"):
        _ = load(run).weighted


def test_a_table_far_larger_than_its_file_is_refused(run: Path) -> None:
    wide = json.dumps({"cell": "c", **{f"column {i}": i for i in range(4000)}})
    (run / "metrics.jsonl").write_text('{"cell": "c"}\n' * 4000 + wide + "\n")
    with pytest.raises(RunFolderError, match="4,001 columns, almost all of them empty"):
        load(run)


@pytest.mark.parametrize(
    "entries",
    [[1, 2**63], [0.5, True], [[1], 1], [[1], ""], [[1], {}], [[1], ["1"]], [[1], [[]]], [{}, {}]],
    ids=str,
)
def test_columns_hold_one_kind(run: Path, entries: list) -> None:
    rows = [json.dumps({"cell": "c", "x": one}) for one in entries]
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    with pytest.raises(RunFolderError, match="'x' mixes"):
        load(run)


def test_a_checkpoint_without_a_state_is_refused(run: Path) -> None:
    path = run / "checkpoints/last.safetensors"
    sound: dict[str, Any] = {"version": 1, "meta": {}, "folder": {}}
    for header in (
        [], 5, {"version": 1}, sound | {"meta": []}, sound | {"folder": {"metrics_bytes": -1}},
        sound | {"folder": {"kernels": {"../x.safetensors": {}}}}, sound | {"folder": {"a": 1}},
        sound | {"folder": {"results": {"b=1": {"slope": float("inf")}}}},
    ):  # fmt: skip
        save_file({"s": torch.zeros(2)}, path, {"ntkscale": json.dumps(header)})
        with pytest.raises(RunFolderError, match="is damaged"):
            open_run(run, CONFIG)
    save_file({"s": torch.zeros(2)}, path, {"ntkscale": json.dumps(sound | {"version": "2\x1b"})})
    with pytest.raises(RunFolderError, match="has version") as caught:
        open_run(run, CONFIG)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["kernels", "kernels/b=1", "weights", "checkpoints", "metrics.jsonl", "timing.jsonl", ".lock",
     "results.json", "figures"],
)  # fmt: skip
def test_nothing_is_written_or_removed_through_a_link(run: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "5.safetensors").write_text("mine")
    (outside / ".x.tmp").write_text("mine")
    place, target = run / name, outside / "file"
    if place.is_dir() or name == "figures":
        target = outside
        if place.exists():
            place.rename(tmp_path / "moved")
    else:
        target.write_text("mine\n" * 1000)
        place.unlink(missing_ok=True)
    place.symlink_to(target)
    with pytest.raises(RunFolderError, match="is a link or a device"):
        open_run(run, CONFIG)
    assert (outside / "5.safetensors").exists() and (outside / ".x.tmp").exists()
    assert target.is_dir() or target.read_text() == "mine\n" * 1000


def test_figures_are_not_drawn_through_a_link(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(run / "config.json", lambda content: content.update(experiment="circle"))
    (run / "figures").symlink_to(tmp_path)
    assert analyze.main([str(run)]) == 2
    assert "figures is a link" in capsys.readouterr().err


def test_a_block_larger_than_any_number_does_not_pass_for_verified(tmp_path: Path) -> None:
    Job().run(tmp_path / "k.npy")
    edited(
        tmp_path / "k.npy.manifest.json",
        lambda content: content.update(block=10**400, sha256=[]),
    )
    with pytest.raises(ValueError, match="is not the manifest of a kernel"):
        verify(tmp_path / "k.npy")


@pytest.mark.parametrize(
    "name", ["k.npy.partial", "k.npy.lock", "k.npy.partial.0.jsonl", "k.npy.manifest.json.tmp"]
)
def test_a_kernel_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / name).symlink_to(victim)
    try:
        Job().run(tmp_path / "k.npy")
    except OSError as error:
        assert "is a link; delete it or choose another path." in str(error)
    assert victim.read_text() == "mine"


def test_a_pipe_is_no_half_written_kernel(tmp_path: Path) -> None:
    Job().run(tmp_path / "k.npy")
    job = json.loads((tmp_path / "k.npy.manifest.json").read_bytes())
    lines = [{"block": [0, 0], "sha256": [job.pop("sha256")[0][0]]}]
    text = "".join(json.dumps(line) + "\n" for line in (job, *lines))
    (tmp_path / "k.npy.partial.0.jsonl").write_text(text)
    (tmp_path / "k.npy.manifest.json").unlink()
    os.mkfifo(tmp_path / "k.npy.partial")
    with pytest.raises(ValueError, match="is no file; delete it or choose another path"):
        Job().run(tmp_path / "k.npy")


def test_arrays_that_announce_too_much_are_refused(tmp_path: Path) -> None:
    import zipfile

    def saved(inputs: bytes, targets: np.ndarray, name: str = "inputs.npy") -> Path:
        path = tmp_path / "mine.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, inputs)
            archive.writestr("targets.npy", npy_bytes(targets))
        return path

    sound = npy_bytes(np.ones((4, 2)))
    huge = sound.replace(b"(4, 2), }" + b" " * 12, b"(40000000000, 2), }" + b"  ")
    assert huge != sound and len(huge) == len(sound)
    with pytest.raises(ValueError, match="announces more or fewer numbers"):
        arrays(saved(huge, np.ones(4)))
    with pytest.raises(ValueError, match="has no array 'inputs'"):
        arrays(saved(b"no npy", np.ones(4), "inputs"))
    with pytest.raises(ValueError, match="class indices from 0 to at most 999"):
        arrays(saved(sound, np.array([0, 1, 2, 10**12])), loss="cross-entropy")
    large = npy_bytes(np.full((4, 2), 1e300))
    with pytest.raises(ValueError, match=r"holds 1e\+300 at index \[0, 0\], too large for float32"):
        arrays(saved(large, np.ones(4)))
    assert arrays(saved(large, np.ones(4)), dtype=torch.float64).inputs.max() == 1e300


def test_images_that_announce_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    body = bytes(32 << 20)
    for shape in ((2**32 - 1,) * 3, (4096, 1024, 1024), (31, 1024, 1024), (0, 2, 2)):
        path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *shape) + body, 1))
        with pytest.raises(ValueError, match="its header announces shape"):
            read_idx(path)
    path.write_bytes(struct.pack(">4B", 0, 0, 8, 255) + bytes(4 * 255))
    with pytest.raises(ValueError, match="is not an idx file"):
        read_idx(path)


@pytest.mark.parametrize("labels", [np.full(12, 77), np.full(12, np.nan), np.full(12, "a"), 0.5])
def test_labels_that_are_none_of_ten(tmp_path: Path, labels: Any) -> None:
    y = np.broadcast_to(np.asarray(labels), 12)
    np.savez(tmp_path / "part0.npz", X=np.zeros((12, 32, 32, 3), np.uint8), Y=y)
    with pytest.raises(ValueError, match=r"part0\.npz is damaged"):
        read_cifar5m(tmp_path, None)


def _axis(option: str, *values: Any) -> dict[str, Any]:
    return {"option": option, "values": list(values)}


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": "../../outside"}, {"experiment": "/"}, {"experiment": 3}, {"experiment": ""},
        {"axes": [_axis("seed", "/../../x")]}, {"axes": [_axis("../seed", "1")]},
        {"axes": [_axis("seed", "1", "1")]}, {"axes": [_axis("seed")]},
        {"axes": [_axis("seed", 1)]},
        {"axes": [_axis(f"a{i}", *map(str, range(100))) for i in range(9)]}, {"axes": None},
        {"axes": [_axis("seed", "1" * 300)]}, {"fixed": {"beta": [1]}}, {"fixed": {"a\x1b": []}},
        {"axes": [_axis("seed", "1"), _axis("seed", "2")]},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_sweeps_that_lead_elsewhere_or_never_end(tmp_path: Path, change: dict) -> None:
    sound = {"version": 1, "experiment": "circle", "axes": [_axis("seed", "1")], "fixed": {}}
    (tmp_path / LIST).write_text(json.dumps(sound))
    assert len(read_sweep(tmp_path).plan.points) == 1
    (tmp_path / LIST).write_text(json.dumps(sound | change))
    with pytest.raises(RunFolderError, match="is no list of runs") as caught:
        read_sweep(tmp_path)
    assert str(caught.value).isprintable()


def test_a_map_without_cells_is_none() -> None:
    with pytest.raises(ValueError, match="do not fill its grid"):
        HeatMap((), (), (1.0,), (0.0, 1.0), ("#000000", "#ffffff"), "")


def test_nothing_steers_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show(Table("t\x1b[2J", ["a\x1b]0;x\x07"], [{"a\x1b]0;x\x07": "\x1b[31m"}], "\x9b2J"))
    assert (
        train.main(["images", "--data", str(tmp_path / "\x1b[2J.npz"), "--wandb", "disabled"]) == 2
    )
    said = capsys.readouterr()
    assert all(one.isprintable() for text in said for one in text.splitlines())


def test_the_watch_sees_what_it_is_for(watch: Watch) -> None:
    form = FORMATS[0]
    watch.place.mkdir()

    def judged(read: Callable[[Path, Path], object]) -> Iterator[type[BaseException]]:
        try:
            watch.judge(read, form.errors)
        except BaseException as error:
            yield type(error)

    def bare(place: Path, outside: Path) -> None:
        raise RunFolderError("not from the package.")

    assert [*judged(bare)] == [Violation]
    assert [*judged(lambda place, outside: {}["x"])] == [KeyError]
    assert [*judged(lambda place, outside: None)] == []
    assert [*judged(lambda place, outside: (outside / "new").touch())] == [Violation]
