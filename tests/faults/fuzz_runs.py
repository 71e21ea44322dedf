"""The files of a run folder, read, and taken up again to go on."""

import json
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from ntkscale.runs import Run, RunFolderError, folder, load, open_run
from ntkscale.runs.checkpoint import read_checkpoint
from ntkscale.runs.strict_json import read_json
from tests.faults import fuzz_headers as headers
from tests.faults import fuzz_mutations as mutations
from tests.faults.fuzz_formats import Files, Format, content, of_one

CONFIG = {"experiment": "toy", "width": 64, "seed": [0, 1], "net": {"depth": 2, "rate": 0.5}}


@cache
def run_files(finished: bool = False) -> Files:
    """A run of two cells with kernels, weights and a checkpoint."""
    generator = torch.Generator().manual_seed(3)
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "run"
        with open_run(path, CONFIG) as run:
            for cell in ("b=2", "b=1"):
                for step in (0, 9):
                    row = {"cell": cell, "b": 2, "step": step, "time": 0.5 * step, "mse": 1.25}
                    run.append({**row, "kernel_growth": [1, 2.5], "label": "x", "good": True})
                run.write_kernel(cell, 9, {"kernel": torch.randn(3, 3, generator=generator)})
                run.write_weights(cell, {"w": torch.randn(3, generator=generator).double()})
                run.write_result(cell, {"status": "finished", "slope": 0.5})
                run.append_timing({"cell": cell, "seconds": 1.5})
            run.save_checkpoint({"s": torch.randn(2, generator=generator)}, {"position": 3})
            if finished:
                run.finish()
        return content(path)


def read_run(place: Path, outside: Path) -> None:
    """`runs.load`, and everything that is read when asked for."""
    run = load(place)
    _require_types(run)
    _require_rows(run)
    for key in run.kernels:
        require_tensors(place / "kernels" / f"{key[0]}/{key[1]}.safetensors", run.kernels[key])
        assert key[1] in run.kernels.steps(key[0])
    for cell in run.weighted:
        require_tensors(place / "weights" / f"{cell}.safetensors", run.weights(cell))
    for name in ("config.json", "environment.json"):
        found = {"config.json": run.config, "environment.json": run.environment}[name]
        if list(found) == ["damaged"]:  # refused by itself; the run is read all the same
            with pytest.raises(RunFolderError):
                read_json(place / name)
        elif (place / name).is_file():
            said = json.loads((place / name).read_bytes())
            assert said.pop("version") == 1 and said == found


def _require_types(run: Run) -> None:
    assert isinstance(run.config, dict) and isinstance(run.environment, dict)
    assert isinstance(run.finished, bool)
    assert all(isinstance(entry, dict) for entry in [*run.results.values(), *run.timings])


def _require_rows(run: Run) -> None:
    """Every number of the table is the file's, and the other way round."""
    lines = (run.path / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    rows = [json.loads(line) for line in lines]
    columns = {name: run.metrics[name].to_list() for name in run.metrics.columns}
    assert set(columns) == {name for row in rows for name in row}
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            expected = row.get(name)
            assert value == expected and isinstance(value, bool) == isinstance(expected, bool), name


def require_tensors(path: Path, found: dict[str, Tensor]) -> None:
    """Check tensors against the bytes of their file, read without safetensors."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    header.pop("__metadata__", None)
    assert header.keys() == found.keys()
    for name, tensor in found.items():
        start, end = header[name]["data_offsets"]
        assert list(tensor.shape) == header[name]["shape"]
        own = tensor.contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor
        assert bytes(own.flatten().tolist()) == body[start:end]


def _damage_results(rng: Random, files: Files) -> None:
    """Of a finished run, under a fresh seal mostly."""
    raw = mutations.damage_text(rng, files["results.json"])
    files["results.json"] = raw
    try:
        there = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if not isinstance(there, dict) or rng.random() < 0.2:
        return
    try:
        there = {key: value for key, value in there.items() if key != "sha256"}
        version = {"version": there.pop("version")} if "version" in there else {}
        text = json.dumps(there, sort_keys=True)
        there["sha256"] = sha256(text.encode()).hexdigest()
        files["results.json"] = json.dumps(version | there).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return


def _damage_tensors(kind: str, key: str) -> Callable[[Random, Files], None]:
    """A tensor file whose manifest has, mostly, its size and checksum."""

    def damage(rng: Random, files: Files) -> None:
        name, manifest = f"{kind}/{key}", f"{kind}/manifest.json"
        files[name] = headers.damage_safetensors(rng, files[name])
        if rng.random() < 0.9:
            listed = json.loads(files[manifest])
            entry = listed["files"][key]
            entry |= {"bytes": len(files[name]), "sha256": sha256(files[name]).hexdigest()}
            files[manifest] = json.dumps(listed).encode()

    return damage


def _damage_header(rng: Random, metadata: dict[str, Any]) -> None:
    """The state in a checkpoint's header; without its checksum, as earlier versions wrote it."""
    if rng.random() < 0.1:
        metadata[rng.choice(mutations.TEXTS)] = mutations.hostile(rng)
        return
    header = json.loads(metadata["ntkscale"])
    if rng.random() < 0.9:
        header.pop("sha256")
    text = mutations.damage_text(rng, json.dumps(header).encode())
    metadata["ntkscale"] = text.decode("utf-8", "replace")


def _damage_checkpoint(rng: Random, files: Files) -> None:
    name = "checkpoints/last.safetensors"
    files[name] = headers.damage_safetensors(rng, files[name], _damage_header)


def _read_checkpoint(place: Path, outside: Path) -> None:
    found = read_checkpoint(place / "checkpoints/last.safetensors")
    if found is not None:
        assert isinstance(found.meta, dict) and found.moment.metrics_bytes >= 0
        require_tensors(place / "checkpoints/last.safetensors", found.tensors)


_IN_A_RUN = (
    *("config.json", "metrics.jsonl", "results.json", "environment.json", "timing.jsonl", ".lock"),
    *("kernels", "kernels/b=1", "kernels/b=1/9.safetensors", "kernels/manifest.json", "figures"),
    *(
        "weights",
        "weights/b=1.safetensors",
        "weights/manifest.json",
        "checkpoints/last.safetensors",
    ),
    *("checkpoints",),
)


def _damage_run(rng: Random, files: Files) -> None:
    rng.choice(
        (
            _damage_checkpoint,
            _damage_checkpoint,
            of_one("config.json"),
            of_one("metrics.jsonl"),
            of_one("results.json"),
            of_one("environment.json"),
            of_one("kernels/manifest.json"),
            of_one("weights/manifest.json"),
            _damage_tensors("kernels", "b=1/9.safetensors"),
        )
    )(rng, files)


def _reopen(place: Path, outside: Path) -> None:
    """Take up a run and go on with it: this cuts, removes and writes files."""
    folder.environment = lambda: {"torch": "2"}  # no git
    with open_run(place, CONFIG) as run:
        if run.finished:
            return
        run.load_checkpoint()
        run.append({"cell": "b=1", "step": 10})
        run.write_kernel("b=3", 0, {"kernel": torch.eye(2)})
        run.write_result("b=1", {"status": "finished"})
        assert load(place).kernels["b=3", 0]["kernel"].shape == (2, 2)


RUN_FORMATS = [
    Format("config.json", run_files, of_one("config.json"), read_run, linked=("config.json",)),
    Format("environment.json", run_files, of_one("environment.json"), read_run),
    Format(
        "metrics.jsonl", run_files, of_one("metrics.jsonl"), read_run, linked=("metrics.jsonl",)
    ),
    Format("results.json", lambda: run_files(True), _damage_results, read_run),
    Format("timing.jsonl", run_files, of_one("timing.jsonl"), read_run, linked=("timing.jsonl",)),
    Format(
        "kernels/manifest.json", run_files, of_one("kernels/manifest.json"), read_run,
        linked=("kernels/manifest.json", "kernels", "kernels/b=1"),
    ),
    Format("weights/manifest.json", run_files, of_one("weights/manifest.json"), read_run),
    Format(
        "kernels", run_files, _damage_tensors("kernels", "b=1/9.safetensors"), read_run,
        linked=("kernels/b=1/9.safetensors",),
    ),
    Format(
        "weights", run_files, _damage_tensors("weights", "b=1.safetensors"), read_run,
        linked=("weights/b=1.safetensors",),
    ),
    Format(
        "checkpoint", run_files, _damage_checkpoint, _read_checkpoint,
        linked=("checkpoints/last.safetensors",),
    ),
    Format("run taken up again", run_files, _damage_run, _reopen, linked=_IN_A_RUN, writes=True),
]  # fmt: skip
