"""Kernels on disk, several processes: kills, ranks, a full disk."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiles_problem import Job

from ntkscale.ntk import tiles

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
}
DONE = ["k.npy", "k.npy.manifest.json"]
GO_ON = "stopped before the kernel was complete; run the same command again to go on."


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def torchrun(path: Path, ranks: int, victim: int = -1) -> subprocess.CompletedProcess[str]:
    agent = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    address = ["--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    return python(*agent, *address, str(HERE / "tiles_rank.py"), str(path), str(victim))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bits(job: Job, folder: Path) -> list[bytes]:
    """The finished files of one uninterrupted process."""
    folder.mkdir()
    job.run(folder / "k.npy")
    return [(folder / name).read_bytes() for name in DONE]


def kills(folder: Path, stride: int) -> int:
    done = python(str(HERE / "tiles_killed.py"), str(folder), str(stride))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed twice"] >= 3  # a resumed job may be killed too
    return report["killed"]


def test_killed_at_some_moments_and_resumed(tmp_path):
    assert kills(tmp_path, 12) >= 20


@pytest.mark.slow
def test_killed_at_every_moment_and_resumed(tmp_path):
    assert kills(tmp_path, 1) > 300


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_write_the_bits_of_one_process(tmp_path, ranks):
    expected = bits(Job((60, 60, 2, 2), block=10), tmp_path / "alone")
    folder = tmp_path / "together"
    done = torchrun(folder / "k.npy", ranks)
    assert done.returncode == 0, done.stderr
    assert names(folder) == DONE
    assert [(folder / name).read_bytes() for name in DONE] == expected
    hands = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(hands) == ranks and max(map(len, hands)) <= 21 / ranks + 2
    assert sorted(block for hand in hands for block in hand) == [
        [i, j] for i in range(6) for j in range(i + 1)
    ]


@pytest.mark.parametrize(
    ("victim", "ranks", "then"),
    [
        (1, 2, 1),
        pytest.param(0, 2, 3, marks=pytest.mark.slow),
        pytest.param(2, 3, 2, marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_dies_ends_the_job_with_a_word(tmp_path, victim, ranks, then):
    job = Job((60, 60, 2, 2), block=10)
    expected = bits(job, tmp_path / "alone")
    folder = tmp_path / "together"
    path = folder / "k.npy"
    ended = torchrun(path, ranks, victim)
    assert ended.returncode != 0
    said = re.search(rf"ranks? ([\d, ]+) {re.escape(GO_ON)}", ended.stderr)
    assert said is not None and str(victim) in said[1], ended.stderr
    assert "k.npy.partial" in names(folder) and not path.exists()
    if then == 1:
        job.computed.clear()
        assert np.array_equal(job.run(path), job.expected())
        assert len(job.computed) <= 21 - 2 - 1  # each rank had written some
    else:
        done = torchrun(path, then)
        assert done.returncode == 0, done.stderr
    assert names(folder) == DONE
    assert [(folder / name).read_bytes() for name in DONE] == expected


@pytest.mark.slow
def test_without_an_agent_the_others_end_too(tmp_path):
    path = tmp_path / "k.npy"
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "tiles_rank.py"), str(path), "1"],
            env={**ENVIRONMENT, **together, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, -9]
    assert errors[0].rstrip().endswith(f"RuntimeError: rank 1 {GO_ON}")
    job = Job((60, 60, 2, 2), block=10)
    assert np.array_equal(job.run(path), job.expected())
    assert tiles.verify(path) == []


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from tiles_problem import Job
path, job = Path(sys.argv[1]), Job()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))
for _ in range(2):
    try:
        job.run(path)
    except OSError as error:
        print(error)
assert not job.computed
print([entry.name for entry in path.parent.iterdir()])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_128, -1))
job.run(path)
"""
    path = tmp_path / "k.npy"
    done = python("-c", script, str(path))
    assert done.returncode == 0, done.stderr
    *messages, left = done.stdout.splitlines()
    assert left == "[]" and len(messages) == 2
    assert messages[0] == (
        f"{path} takes 10,128 bytes, for which there is no room (file too large); make room or "
        "choose another path."
    )
    assert tiles.verify(path) == []
