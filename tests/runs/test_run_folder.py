"""Opening, resuming and refusing run folders."""

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ntkscale.runs import RunFolderError, load, open_run

CONFIG: dict[str, Any] = {"experiment": "toy", "width": 64, "seed": [0, 1], "net": {"depth": 2}}


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"cell": "seed=0", "step": step, **more}


def listing(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_floats_keep_their_bits(tmp_path: Path) -> None:
    draw = random.Random()
    values = [math.ldexp(draw.uniform(-1, 1), draw.randrange(-1070, 1000)) for _ in range(300)]
    values += [5e-324, 1.7976931348623157e308, 0.1, 1 / 3, -0.0]
    with open_run(tmp_path / "run", CONFIG) as folder:
        for step, value in enumerate(values):
            folder.append(row(step, loss=value, kernel_eigenvalues=[value, -value]))
    metrics = load(tmp_path / "run").metrics
    assert [v.hex() for v in metrics["loss"]] == [v.hex() for v in values]
    assert [v[1].hex() for v in metrics["kernel_eigenvalues"]] == [(-v).hex() for v in values]


def test_numbers_that_are_not_finite_become_null_in_strict_json(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG) as folder:
        folder.append(row(0, loss=math.nan, kernel_growth=[1.0, math.inf]))
        folder.append(row(1, loss=1))
        folder.write_result("seed=0", {"slope": -math.inf})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    run = load(tmp_path)
    assert run.metrics["loss"].to_list() == [None, 1.0]
    assert run.metrics["kernel_growth"].to_list() == [[1.0, None], None]
    assert run.results == {"seed=0": {"slope": None}}


def test_a_run_is_resumed_at_its_checkpoint(tmp_path: Path) -> None:
    state = {
        "a": torch.randn(3, 4, dtype=torch.float64),
        "b": torch.tensor(True),
        "e": torch.ones(0),
    }
    with open_run(tmp_path, CONFIG) as folder:
        folder.append(row(0, loss=1.0))
        folder.write_kernel("seed=0", 0, {"kernel": torch.eye(3)})
        folder.write_result("seed=0", {"status": "finished"})
        folder.save_checkpoint(state, {"step": 5, "recent": [math.nan, 0.1]})
        before = {n: (tmp_path / n).read_bytes() for n in ("metrics.jsonl", "results.json")}
        manifest = (tmp_path / "kernels/manifest.json").read_bytes()
        folder.append(row(1, loss=0.5))
        folder.write_kernel("seed=0", 1, {"kernel": 2 * torch.eye(3)})
        folder.write_weights("seed=0", {"w": torch.ones(2)})
        folder.write_result("seed=0", {"status": "diverged"})
        (tmp_path / "kernels/.2.safetensors.1-ab.tmp").write_bytes(b"half")
    with open_run(tmp_path, CONFIG) as folder:
        assert not folder.finished
        assert folder.results() == {"seed=0": {"status": "finished"}}
        loaded = folder.load_checkpoint()
    assert loaded is not None
    tensors, meta = loaded
    assert tensors.keys() == state.keys()
    assert all(
        torch.equal(tensors[n], state[n]) and tensors[n].dtype == state[n].dtype for n in state
    )
    assert meta["step"] == 5 and math.isnan(meta["recent"][0]) and meta["recent"][1] == 0.1
    assert before == {n: (tmp_path / n).read_bytes() for n in before}
    assert manifest == (tmp_path / "kernels/manifest.json").read_bytes()
    assert not [name for name in listing(tmp_path) if name.endswith(("1.safetensors", ".tmp"))]
    assert "weights/seed=0.safetensors" not in listing(tmp_path)


def test_without_a_checkpoint_a_run_starts_anew(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG) as folder:
        folder.append(row(0, loss=1.0))
        folder.write_kernel("seed=0", 0, {"kernel": torch.eye(3)})
    with open_run(tmp_path, CONFIG) as folder:
        assert folder.load_checkpoint() is None
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    assert not (tmp_path / "kernels/seed=0/0.safetensors").exists()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG) as folder:
        folder.append(row(0, loss=1.0))
        folder.save_checkpoint({}, {})
        folder.append(row(1, loss=0.5))
        folder.finish()
    first, second = open_run(tmp_path, CONFIG), open_run(tmp_path, CONFIG)  # no lock is held
    assert first.finished and second.finished
    assert len(load(tmp_path).metrics) == 2 and load(tmp_path).finished
    with pytest.raises(ValueError, match="finished"):
        first.append(row(2))


def test_another_configuration_is_shown_key_by_key(tmp_path: Path) -> None:
    open_run(tmp_path, {**CONFIG, "old": True}).close()
    before = listing(tmp_path)
    with pytest.raises(RunFolderError) as error:
        open_run(tmp_path, {**CONFIG, "width": 128, "net": {"depth": 3}, "new": "x"})
    sentence = str(error.value)
    for part in (
        "width 64 -> 128",
        "net.depth 2 -> 3",
        "old true -> (absent)",
        'new (absent) -> "x"',
    ):
        assert part in sentence
    assert "seed" not in sentence and listing(tmp_path) == before
    open_run(tmp_path, {**CONFIG, "old": True, "seed": (0, 1)}).close()  # tuples are lists


def test_config_is_versioned_and_sorted(tmp_path: Path) -> None:
    open_run(tmp_path, CONFIG).close()
    text = (tmp_path / "config.json").read_text()
    assert text == json.dumps({"version": 1, **CONFIG}, indent=2, sort_keys=True) + "\n"
    assert load_config_only(tmp_path) == CONFIG
    (tmp_path / "config.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(RunFolderError, match="version 2"):
        open_run(tmp_path, CONFIG)


def load_config_only(path: Path) -> dict[str, Any]:
    with open_run(path, CONFIG) as folder:
        return folder.config


@pytest.mark.parametrize(
    "config", [{"a": math.nan}, {"a": object()}, {"a": Path("x")}, {"version": 2}]
)
def test_a_configuration_json_cannot_hold_creates_nothing(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"; .*\."):
        open_run(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


def test_folders_that_are_no_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").touch()
    (tmp_path / "file").touch()
    for path, match in [
        (tmp_path / "thesis", "'chapter.tex' but no config.json"),
        (tmp_path / "file", "is a file, not a folder"),
        (tmp_path / "file/run", "is a file, not a folder"),
        (Path("/proc/ntkscale/run"), "/proc.* cannot be written"),
    ]:
        with pytest.raises(RunFolderError, match=match):
            open_run(path, CONFIG)
    assert listing(tmp_path) == {"thesis/chapter.tex", "file"}
    (tmp_path / "empty").mkdir()
    open_run(tmp_path / "empty", CONFIG).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(RunFolderError, match="change its permissions"):
        open_run(tmp_path / "shut/run", CONFIG)


def test_one_writer_at_a_time_and_stale_locks_do_not_block(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG), pytest.raises(RunFolderError, match="this process already"):
        open_run(tmp_path, CONFIG)
    hold = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "f.write('4242'); f.flush(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError, match=r"another process .pid 4242"):
            open_run(tmp_path, CONFIG)
        other.kill()
    assert (tmp_path / ".lock").exists()
    open_run(tmp_path, CONFIG).close()


def test_a_dropped_folder_lets_go(tmp_path: Path) -> None:
    folder = open_run(tmp_path, CONFIG)
    del folder
    open_run(tmp_path, CONFIG).close()


def test_bad_rows_and_names_are_refused(tmp_path: Path) -> None:
    with open_run(tmp_path, CONFIG) as folder:
        with pytest.raises(ValueError, match="cell"):
            folder.append({"loss": 1.0})
        with pytest.raises(ValueError, match="loss is a Tensor"):
            folder.append(row(0, loss=torch.tensor(1.0)))
        for cell in ("", "../up", ".hidden", "a/b", "x" * 201):
            with pytest.raises(ValueError, match="cannot name a file"):
                folder.write_kernel(cell, 0, {})
        with pytest.raises(ValueError, match="must be 0 or more"):
            folder.write_kernel("c", -1, {})
        folder.write_kernel("c", 1, {"kernel": torch.ones(2)})
        folder.write_kernel("c", 1, {"kernel": torch.ones(2)})  # the same again does no harm
        with pytest.raises(ValueError, match="with other numbers"):
            folder.write_kernel("c", 1, {"kernel": torch.zeros(2)})
    with pytest.raises(ValueError, match="is closed"):
        folder.append(row(0))
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_the_environment_says_where_a_run_was_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path, CONFIG).close()
    first = json.loads((tmp_path / "environment.json").read_text())
    assert (
        first["packages"]["torch"] == torch.__version__.split("+")[0] and first["resumed_in"] == []
    )
    open_run(tmp_path, CONFIG).close()
    assert json.loads((tmp_path / "environment.json").read_text()) == first
    monkeypatch.setattr("ntkscale.runs.folder.environment", lambda: {"python": "9"})
    for _ in range(2):
        open_run(tmp_path, CONFIG).close()
    assert json.loads((tmp_path / "environment.json").read_text()) == {
        **first,
        "resumed_in": [{"python": "9"}],
    }


def test_the_environment_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.setenv("USER", "somebody")
    open_run(tmp_path / "run", CONFIG).close()
    text = (tmp_path / "run/environment.json").read_text()
    assert "somebody" not in text and "/" not in text
