"""One rank of the tests with torchrun: computes a kernel slowly; the rank named as victim dies.

Usage: python tiles_rank.py PATH VICTIM, with -1 for no victim. Every rank prints the blocks it
computed, as JSON, if it gets to the end.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from tiles_problem import Job


def main() -> None:
    path, victim = Path(sys.argv[1]), int(sys.argv[2])
    rank = int(os.environ["RANK"])
    job = Job((60, 60, 2, 2), block=10)
    told: list[tuple[int, int]] = []

    def compute(rows: slice, columns: slice) -> torch.Tensor:
        if victim >= 0:
            time.sleep(0.05)
            if rank == victim and len(job.computed) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        return job.compute(rows, columns)

    got = job.run(path, compute=compute, progress=lambda *at: told.append(at))
    assert (got == job.expected()).all()
    assert not dist.is_initialized()
    assert (told[-1] == (3600, 3600)) if rank == 0 else not told
    # In a group that is there already, and once more in the same processes.
    again = job.run(path, compute=None)
    assert (again == got).all()
    other = Job((20, 20), fingerprint=str(rank) * 64)
    try:
        other.run(path)
    except ValueError as error:
        assert "were given different kernels" in str(error)
    else:
        raise AssertionError("ranks with different kernels agreed")
    sys.stdout.write(json.dumps(job.computed) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
