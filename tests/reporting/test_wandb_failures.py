"""Whatever W&B does, training goes on: nothing waits, asks or raises."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb

from ntkscale.reporting import WandbLog
from ntkscale.reporting.wandb_log import _warn
from tests.reference import wandb_record

ROOT = Path(__file__).parents[2]
KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Every test warns anew and has not yet gone offline."""
    _warn.cache_clear()
    yield
    WandbLog._online_failed = False


def log_rows(log: WandbLog, count: int = 5) -> None:
    for step in range(count):
        log.log({"step": step, "time": 0.1 * step, "loss": 1.0})
        log.log_kernel_picture("kernel", np.eye(3), 0.1 * step)
    log.finish()


class Failing:
    """A W&B run that fails in one of its methods from some call on."""

    def __init__(self, method: str, after: int, error: Exception) -> None:
        self.method, self.left, self.error = method, after, error
        self.logged: list[dict[str, Any]] = []

    def _call(self, method: str) -> None:
        if method == self.method:
            self.left -= 1
            if self.left < 0:
                raise self.error

    def define_metric(self, *_: object, **__: object) -> None:
        self._call("define_metric")

    def log(self, entries: dict[str, Any]) -> None:
        self._call("log")
        self.logged.append(entries)

    def finish(self) -> None:
        self._call("finish")


@pytest.mark.parametrize(
    ("method", "after"), [("define_metric", 0), ("define_metric", 7), ("log", 3), ("finish", 0)]
)
@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(32, "Broken pipe"),
        wandb.Error("the service\nis gone"),
        RuntimeError(),
        ValueError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_ends_the_record_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    method: str,
    after: int,
    error: Exception,
) -> None:
    fake = Failing(method, after, error)
    monkeypatch.setattr(wandb, "init", lambda **_: fake)
    log_rows(WandbLog("offline", tmp_path, name="n", group="g", config={}))
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"W&B: {type(error).__name__}") and "local files are complete" in err
    if method == "log":
        assert len(fake.logged) == 3


def test_many_cells_say_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise wandb.Error("no room")

    monkeypatch.setattr(wandb, "init", refuse)
    for cell in range(5):
        log_rows(WandbLog("offline", tmp_path, name=str(cell), group="g", config={}))
    assert capfd.readouterr().err.count("\n") == 1


def test_the_disabled_log_never_imports_wandb(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from ntkscale.reporting import WandbLog
        log = WandbLog("disabled", Path(sys.argv[1]), name="n", group="g", config={})
        log.log({"step": 0, "loss": 1.0})
        log.finish()
        assert "wandb" not in sys.modules
    """
    assert alone(script, tmp_path, {}).returncode == 0
    assert not list(tmp_path.iterdir())


LOGGING = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from ntkscale.reporting import WandbLog
    log = WandbLog(sys.argv[2], Path(sys.argv[1]), name="n", group="g", config={"width": 4})
    again = WandbLog(sys.argv[2], Path(sys.argv[1]) / "b", name="n", group="g", config={})
    again.finish()
    for step in range(200):
        if step == 100 and sys.argv[3] == "kill":
            mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            (service,) = (
                int(pid) for pid in mine if "wandb" in Path(f"/proc/{pid}/cmdline").read_text()
            )
            os.kill(service, signal.SIGKILL)
        log.log({"step": step, "time": 0.1 * step, "loss": 1.0, "kernel_growth": [1.0, 2.0]})
        if step % 20 == 0:
            log.log_kernel_picture("kernel", np.eye(4), 0.1 * step)
    log.finish()
    print("trained")
"""


def alone(
    script: str, folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A Python of its own with nothing in its environment and stdin closed; killed after 60 s."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(folder.parent), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("mode", "environment", "lines"),
    [
        ("offline", {}, 0),
        ("offline", {"HOME": "/proc/nobody"}, 0),
        ("online", {"HOME": "/proc/nobody", "WANDB_BASE_URL": "http://127.0.0.1:9"}, 1),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}, 1),
    ],
    ids=["no home", "unwritable home", "no account, no network", "account, no network"],
)
def test_without_network_account_and_home_nothing_waits_or_asks(
    tmp_path: Path, mode: str, environment: dict[str, str], lines: int
) -> None:
    done = alone(LOGGING, tmp_path, environment, mode, "no")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("\n") == lines, done.stderr
    (tmp_path / "b").rename(tmp_path.with_name(f"{tmp_path.name}-b"))
    assert len(wandb_record.history(tmp_path)) == 210
    assert {path.name for path in tmp_path.iterdir()} == {"wandb"}  # no litter


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the service in /proc")
def test_a_service_killed_in_mid_run_costs_one_line(tmp_path: Path) -> None:
    done = alone(LOGGING, tmp_path, {}, "offline", "kill")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("W&B: ")


class Answering(BaseHTTPRequestHandler):
    """Says yes to everything and nothing more."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_nothing_is_asked_on_a_terminal(tmp_path: Path) -> None:
    """Online without an account on a real terminal, where W&B by itself would ask for a key."""
    master, slave = os.openpty()
    # A server that answers, so that the network is not what is missing.
    somebody = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=somebody.serve_forever, daemon=True).start()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOGGING), str(tmp_path), "online", "no"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT),
            "MPLCONFIGDIR": str(tmp_path.parent),
            "HOME": str(tmp_path.parent),
            "WANDB_BASE_URL": f"http://127.0.0.1:{somebody.server_port}",
        },
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        assert process.wait(60) == 0
        said = os.read(master, 65536).decode()
        assert "trained" in said and "no account" in said and said.count("\n") == 2, said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        os.close(master)
        somebody.shutdown()
        somebody.server_close()


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}
        done = alone(LOGGING, tmp_path, environment, "online", "no")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert "offline instead" in done.stderr
