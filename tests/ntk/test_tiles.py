"""Kernels on disk, in one process: content, going on, damage, refusals."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiles_problem import NAME, Job, whole

from ntkscale.ntk import tiles
from ntkscale.ntk.tiles.job import Job as Cut
from ntkscale.ntk.tiles.job import deal

DONE = ["k.npy", "k.npy.manifest.json"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(path: Path, job: Job, after: int) -> None:
    """Leave `path` as a Ctrl-C in the computation of a block does."""

    def compute(rows: slice, columns: slice) -> torch.Tensor:
        if len(job.computed) == after:
            raise KeyboardInterrupt
        return job.compute(rows, columns)

    with pytest.raises(KeyboardInterrupt):
        job.run(path, compute=compute)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("block", [16, 50, 64, 7])
@pytest.mark.parametrize(
    ("shape", "symmetric"),
    [
        ((50, 50), True),
        ((50, 50), False),
        ((50, 33), False),
        ((20, 20, 3), True),
        ((20, 37, 3), False),
        ((20, 20, 3, 3), True),
        ((20, 37, 3, 3), False),
        ((1, 1), True),
    ],
)
def test_content(tmp_path, shape, symmetric, block):
    job = Job(shape, block=block, symmetric=symmetric)
    told: list[tuple[int, int]] = []
    got = job.run(tmp_path / "k.npy", progress=lambda *at: told.append(at))
    assert np.array_equal(got, whole(shape, symmetric)) and got.dtype == np.float32
    assert np.array_equal(np.load(tmp_path / "k.npy"), got)
    assert names(tmp_path) == DONE and tiles.verify(tmp_path / "k.npy") == []
    total = shape[0] * shape[1]
    assert told[0] == (0, total) and told[-1] == (total, total)
    assert all(a[0] < b[0] for a, b in pairwise(told))
    blocks = [-(-n // block) for n in shape[:2]]
    assert len(set(job.computed)) == len(job.computed)
    expected = blocks[0] * (blocks[0] + 1) // 2 if symmetric else blocks[0] * blocks[1]
    assert len(job.computed) == expected


def test_diagonal_blocks_keep_their_bits_and_other_dtypes_are_stored(tmp_path):
    features = torch.randn(40, 7, dtype=torch.float64)

    def compute(rows: slice, columns: slice) -> torch.Tensor:
        block = features[rows] @ features[columns].T
        return (block + block.T) / 2 if rows == columns else block

    got = Job((40, 40), dtype=np.dtype("f8")).run(tmp_path / "k.npy", compute=compute)
    assert got.dtype == np.float64 and np.array_equal(got, got.T)


def test_order_and_shares():
    cut = Cut((70, 70), np.dtype("f4"), 16, True, NAME)
    assert cut.walk()[:8] == [(0, 0), (1, 1), (1, 0), (2, 0), (2, 1), (2, 2), (3, 3), (3, 2)]
    for last, block in pairwise(cut.walk()):
        assert len(set(block) - set(last)) <= 1  # factors that were not at hand
    for blocks in (cut.walk(), cut.walk()[7:], cut.walk()[::3], []):
        for ranks in (1, 2, 3, 40):
            hands = deal(cut, blocks, ranks)
            assert [block for hand in hands for block in hand] == list(blocks)
            shares = [sum(map(cut.entries, hand)) for hand in hands]
            assert max(shares) - sum(shares) / ranks <= 2 * 16 * 16


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_goes_on_after_an_interrupt(tmp_path, after):
    job, path = Job(), tmp_path / "k.npy"
    interrupted(path, job, after)
    assert names(tmp_path) == ["k.npy.partial", "k.npy.partial.0.jsonl"]
    told: list[tuple[int, int]] = []
    got = job.run(path, progress=lambda *at: told.append(at))
    assert np.array_equal(got, job.expected())
    assert len(job.computed) == len(set(job.computed)) == 10
    assert (told[0][0] > 0) == (after > 0) and told[-1] == (2500, 2500)
    assert names(tmp_path) == DONE


def test_an_error_in_a_block_leaves_what_is_done(tmp_path):
    job, path = Job(), tmp_path / "k.npy"

    def wrong(rows: slice, columns: slice) -> torch.Tensor:
        return job.compute(rows, columns)[:, :-1]

    with pytest.raises(ValueError, match=r"\(16, 16\) was asked for.*\(16, 15\)"):
        job.run(path, compute=wrong)
    assert np.array_equal(job.run(path), job.expected())


@pytest.mark.parametrize("place", ["block", "mirror", "header", "cut", "gone"])
def test_damage_of_a_partial_file(tmp_path, caplog, place):
    job, path = Job(), tmp_path / "k.npy"
    partial = tmp_path / "k.npy.partial"
    interrupted(path, job, 8)
    before = len(job.computed)
    if place == "block":
        flip(partial, 128 + 4 * (17 * 50 + 3))
    elif place == "mirror":
        flip(partial, 128 + 4 * (3 * 50 + 17))
    elif place == "header":
        flip(partial, 40)
    elif place == "cut":
        with partial.open("r+b") as file:
            file.truncate(128 + 4 * 30 * 50)
    else:
        partial.unlink()
    assert np.array_equal(job.run(path), job.expected())
    again = job.computed[before:]
    if place in ("block", "mirror"):
        assert sorted(again) == [(1, 0), (3, 0), (3, 1)]
        assert "1 of 8 finished blocks do not match" in caplog.text
    elif place == "header":
        assert sorted(again) == [(3, 0), (3, 1)] and not caplog.text
    assert names(tmp_path) == DONE and tiles.verify(path) == []


@pytest.mark.parametrize("tail", ["torn", "nonsense", "foreign block", "headless", "deep"])
def test_damage_of_a_journal(tmp_path, tail):
    job, path = Job(), tmp_path / "k.npy"
    journal = tmp_path / "k.npy.partial.0.jsonl"
    interrupted(path, job, 8)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 9
    added = {
        "torn": lines[-1][:50],
        "nonsense": '[1]\n\x00\n{"block": [0, "a"], "sha256": 3}\n{"block": [{}], "sha256": []}\n',
        "foreign block": json.dumps({"block": [0, 3], "sha256": ["0" * 64] * 2}) + "\n",
        "deep": "[" * 100_000 + "\n",
    }
    if tail == "torn":
        journal.write_text("".join(lines[:-1]) + added[tail])
    elif tail == "headless":
        journal.write_text(lines[0][:20])
    else:
        journal.write_text("".join(lines) + added[tail])
    assert np.array_equal(job.run(path), job.expected())
    assert len(job.computed) == 10 + {"torn": 1, "headless": 8}.get(tail, 0)


@pytest.mark.parametrize("other", [{"fingerprint": "g" * 64}, {"block": 8}, {"symmetric": False}])
def test_another_kernel_half_written(tmp_path, other):
    job, path = Job(), tmp_path / "k.npy"
    interrupted(path, job, 4)
    another = Job(**other)
    with pytest.raises(ValueError, match=r"is part of another kernel .* delete it or choose"):
        another.run(path)
    (tmp_path / "k.npy.partial").unlink()
    assert np.array_equal(another.run(path), another.expected())
    assert names(tmp_path) == DONE


def test_a_complete_kernel_is_used_again_repaired_or_replaced(tmp_path, caplog):
    job, path = Job(), tmp_path / "k.npy"
    job.run(path)
    told: list[tuple[int, int]] = []
    got = Job(block=8).run(path, progress=lambda *at: told.append(at), compute=None)
    assert np.array_equal(got, job.expected()) and told == [(2500, 2500)]

    got[3, 17] += 1  # the map is the file
    got.flush()
    assert tiles.verify(path) == [(slice(0, 16), slice(16, 32))]
    job.computed.clear()
    got = job.run(path)
    assert np.array_equal(got, job.expected()) and job.computed == [(1, 0)]
    assert "1 of 10 finished blocks do not match" in caplog.text
    assert names(tmp_path) == DONE and tiles.verify(path) == []

    other = Job((30, 20), symmetric=False, fingerprint="g" * 64)
    interrupted(path, other, 2)
    assert np.array_equal(np.load(path), job.expected())  # until the new one is complete
    assert np.array_equal(job.run(path, compute=None), job.expected())  # whatever lies beside it
    assert np.array_equal(other.run(path), other.expected())
    assert names(tmp_path) == DONE and len(other.computed) == 4

    np.save(path, np.zeros(3))
    (tmp_path / "k.npy.manifest.json").unlink()
    assert np.array_equal(job.run(path), job.expected())


def test_verify(tmp_path):
    job, path = Job((50, 33), symmetric=False), tmp_path / "k.npy"
    with pytest.raises(FileNotFoundError, match=r"has no manifest k\.npy\.manifest\.json beside"):
        tiles.verify(path)
    job.run(path)
    flip(path, 128)
    flip(path, path.stat().st_size - 1)
    corners = [(slice(0, 16), slice(0, 16)), (slice(48, 50), slice(32, 33))]
    assert tiles.verify(str(path)) == corners
    with path.open("r+b") as file:
        file.truncate(128 + 33 * 4 * 47)
    assert len(tiles.verify(path)) == 1 + 3 + 3
    flip(path, 30)
    with pytest.raises(ValueError, match="does not begin like the kernel"):
        tiles.verify(path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": None},
        {"shape": [1 << 40, 1 << 40]},
        {"shape": [50, 50, 1, 1, 1]},
        {"shape": [50, -50]},
        {"shape": [True, 50]},
        {"dtype": "|O"},
        {"dtype": ["<f4"]},
        {"block": 0},
        {"block": 1 << 70},
        {"block": "16"},
        {"symmetric": 1},
        {"fingerprint": None},
        {"sha256": None},
        {"sha256": [["0" * 64] * 4] * 3},
        {"sha256": [["../../etc/passwd"] * 4] * 4},
        {"version": 2},
    ],
    ids=str,
)
def test_manifests_from_strangers(tmp_path, change):
    job, path = Job(), tmp_path / "k.npy"
    job.run(path)
    manifest = tmp_path / "k.npy.manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ValueError, match=r"compute the kernel again\.|use the one it was"):
        tiles.verify(path)
    assert np.array_equal(job.run(path), job.expected()) and len(job.computed) == 20


def test_one_process_at_a_time(tmp_path):
    job, path = Job(), tmp_path / "k.npy"

    def twice(rows: slice, columns: slice) -> torch.Tensor:
        with pytest.raises(BlockingIOError, match=r"is in use by another process .* wait for it"):
            Job().run(path)
        return job.compute(rows, columns)

    assert np.array_equal(job.run(path, compute=twice), job.expected())
    holder = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{holder}; input()", str(tmp_path / "k.npy.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError, match="is in use by another process"):
            job.run(path)
        process.kill()
    assert np.array_equal(job.run(path), job.expected())
    assert names(tmp_path) == DONE


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"shape": (50,)}, "a kernel has no shape"),
        ({"shape": (50, 0)}, "a kernel has no shape"),
        ({"shape": (50, 40)}, "is not symmetric"),
        ({"shape": (50, 50, 3, 2)}, "is not symmetric"),
        ({"dtype": np.dtype("f2")}, "use float32 or float64"),
        ({"block": 0}, "pass at least 1"),
        ({"shape": (4000, 4000), "block": 1}, "are too small"),
        ({"shape": (1 << 31, 1 << 31), "block": 1 << 30}, "use fewer inputs"),
    ],
)
def test_what_cannot_be(tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        Job(**other).run(tmp_path / "k.npy")
    with pytest.raises(ValueError, match=r"give the path of a \.npy file"):
        Job().run(tmp_path)
    assert names(tmp_path) == []
