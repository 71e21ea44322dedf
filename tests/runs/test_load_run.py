"""Reading runs back, and refusing damaged ones in one sentence."""

import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from ntkscale.runs import RunFolderError, load, open_run

CONFIG = {"width": 4}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An interrupted run of two cells with a checkpoint."""
    torch.manual_seed(torch.seed() % 2**32)
    with open_run(tmp_path / "run", CONFIG) as folder:
        for cell in ("b=2", "b=1"):
            for step in (0, 9, 10):
                folder.append({"cell": cell, "b": 2, "step": step, "time": 0.5 * step, "mse": 1})
                folder.write_kernel(cell, step, {"kernel": torch.randn(5, 5)})
            folder.append({"cell": cell, "b": 0.5, "step": 11, "kernel_growth": [1, 2.5]})
            folder.write_weights(cell, {"w": torch.randn(3)})
            folder.write_result(cell, {"status": "finished"})
            folder.append_timing({"cell": cell, "seconds": 1.5})
        folder.save_checkpoint({"s": torch.randn(2)}, {})
    return tmp_path / "run"


def test_what_was_written_is_read(path: Path) -> None:
    run = load(path)
    assert run.config == CONFIG and not run.finished
    assert list(run.results) == ["b=2", "b=1"]
    assert run.timings[1] == {"cell": "b=1", "seconds": 1.5}
    assert run.metrics.schema == {
        "cell": pl.String,
        "b": pl.Float64,
        "step": pl.Int64,
        "time": pl.Float64,
        "mse": pl.Float64,
        "kernel_growth": pl.List(pl.Float64),
    }
    assert run.metrics["kernel_growth"].to_list()[3] == [1.0, 2.5]
    assert run.metrics["time"].null_count() == 2
    assert list(run.kernels) == [(cell, step) for cell in ("b=1", "b=2") for step in (0, 9, 10)]
    assert run.kernels.steps("b=1") == [0, 9, 10] and ("b=1", 3) not in run.kernels
    expected = load_file(path / "kernels/b=2/9.safetensors")["kernel"]
    assert torch.equal(run.kernels["b=2", 9]["kernel"], expected)
    assert torch.equal(run.weights("b=1")["w"], load_file(path / "weights/b=1.safetensors")["w"])


def test_tensors_of_any_layout_keep_their_numbers(tmp_path: Path) -> None:
    stack = torch.randn(3, 4, 6)
    tensors = {
        "view": stack[1],
        "turned": stack[2].T,
        "again": stack[1],
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": stack[0].bfloat16(),
        "grad": stack[0].clone().requires_grad_(),
    }
    with open_run(tmp_path, CONFIG) as folder:
        folder.append({"cell": "c"})
        folder.write_kernel("c", 0, tensors)
    read = load(tmp_path).kernels["c", 0]
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor.detach())


def test_half_a_last_line_is_passed_over(path: Path) -> None:
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"cell": "b=1", "mse": 0.')
    assert len(load(path).metrics) == 8
    with open_run(path, CONFIG) as folder:
        folder.append({"cell": "b=1", "step": 12})
    assert load(path).metrics["step"].to_list()[-1] == 12


def test_a_damaged_line_is_named(path: Path) -> None:
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace(":", "", 1)
    (path / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 3 is damaged"):
        load(path)
    lines[2] += " "  # the length the checkpoint knows
    (path / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 3 is damaged"):
        open_run(path, CONFIG)


def test_metrics_shorter_than_the_checkpoint_are_refused(path: Path) -> None:
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text[: len(text) // 2])
    with pytest.raises(RunFolderError, match="does not reach to the last checkpoint"):
        open_run(path, CONFIG)


def test_a_column_of_different_kinds_is_refused(path: Path) -> None:
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"cell": "b=1", "mse": "low"}\n')
    with pytest.raises(RunFolderError, match="'mse' mixes"):
        load(path)


def test_a_missing_kernel_is_named(path: Path) -> None:
    (path / "kernels/b=1/9.safetensors").unlink()
    for read in (load, lambda path: open_run(path, CONFIG)):
        with pytest.raises(RunFolderError, match=r"b=1/9.safetensors is missing"):
            read(path)


def test_a_changed_kernel_is_found_by_its_checksum(path: Path) -> None:
    file = path / "kernels/b=1/9.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    run = load(path)
    assert run.kernels["b=1", 0]["kernel"].shape == (5, 5)
    with pytest.raises(RunFolderError, match="checksum differs"):
        run.kernels["b=1", 9]
    file.write_bytes(content + b"x")
    with pytest.raises(RunFolderError, match=r"has \d+ bytes where"):
        load(path)


@pytest.mark.parametrize("name", ["config.json", "results.json", "kernels/manifest.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 7}', "\xff"])
def test_damaged_json_is_refused(path: Path, name: str, content: str) -> None:
    (path / name).write_bytes(content.encode("latin-1"))
    for read in (load, lambda path: open_run(path, CONFIG)):
        with pytest.raises(RunFolderError, match=f"{name}.*; .*\\.$"):
            read(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 7}', "\xff"])
def test_a_damaged_environment_is_no_reason_to_refuse_the_run(
    path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = load(path)
    (path / "environment.json").write_bytes(content.encode("latin-1"))
    for _ in range(2):
        found = load(path)
        assert found.metrics.equals(expected.metrics) and found.results == expected.results
        assert list(found.environment) == ["damaged"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path / 'environment.json'} is damaged" in said
    # Taken up again, it says from then on where it goes on.
    for _ in range(2):
        open_run(path, CONFIG).close()
        found = load(path).environment
        assert found["damaged"] and [place["python"] for place in found["resumed_in"]]
    assert capsys.readouterr().err == ""


def test_a_damaged_checkpoint_is_refused(path: Path) -> None:
    file = path / "checkpoints/last.safetensors"
    content = file.read_bytes()
    for damaged in (b"", content[:40], content[:-1]):
        file.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"last.safetensors is damaged"):
            open_run(path, CONFIG)
    file.write_bytes(content)
    open_run(path, CONFIG).close()


def test_what_is_no_run_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is no folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"has no config.json"):
        load(tmp_path / "empty")
    open_run(tmp_path / "new", CONFIG).close()
    with pytest.raises(RunFolderError, match="no measurements yet"):
        load(tmp_path / "new")
    shutil.move(path, tmp_path / "moved")
    assert load(tmp_path / "moved").kernels["b=1", 0]["kernel"].shape == (5, 5)
