import os
import socket
import subprocess
import sys
from pathlib import Path

import data_parallel_worker
import torch


def test_two_processes_train_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join([str(here), *sys.path]),
    }
    command = [sys.executable, str(here / "data_parallel_worker.py"), str(tmp_path / "out.pt")]
    processes = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    shared = torch.load(tmp_path / "out.pt")
    for case in data_parallel_worker.CASES:
        alone = data_parallel_worker.train(case)
        assert shared[case].keys() == alone.keys()
        for name, value in alone.items():
            assert torch.allclose(shared[case][name], value, rtol=1e-7, atol=1e-9), (case, name)
