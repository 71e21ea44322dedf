"""The bar on a terminal, and its silence elsewhere."""

import io
import re
from typing import Any

import pytest

from ntkscale.reporting import Progress, progress


class Clock:
    """Stands in for the `time` module."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_every_thirty_seconds(clock: Clock) -> None:
    file = io.StringIO()
    with Progress(file=file) as bar:
        for _ in range(481):
            bar.update(2 + (clock.now - 100) / 120, 10, "seed=0  loss [0.5]")
            clock.now += 0.25
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    # Two cells were done before; since then one every two minutes.
    assert lines[-1] == " 30%  30.0 cells/h, 14:00 left  seed=0  loss [0.5]"


@pytest.mark.parametrize(
    ("seconds", "done", "pace"),
    [
        (10, 5, "30.0 cells/min, 3:10 left"),
        (10, 50, "5.0 cells/s, 0:10 left"),
        (7200, 1, "12.0 cells/day, 198:00:00 left"),
        (10, 0, ""),
    ],
)
def test_rate_and_time_left(clock: Clock, seconds: float, done: float, pace: str) -> None:
    file = io.StringIO()
    with Progress(file=file) as bar:
        bar.update(0, 100, "")
        clock.now += max(seconds, 30) - 30
        bar._shown = -1e9  # the next line is due
        clock.now = 100 + seconds
        bar.update(done, 100, "")
    assert file.getvalue() == f"{done / 100:4.0%}  {pace}\n"


def test_a_terminal_shows_a_bar_and_is_left_clean(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(file=file) as bar:
        for i in range(100):
            bar.update(i / 10, 10, "loss [0.25]")
            clock.now += 0.05
        raise KeyboardInterrupt
    said = file.getvalue()
    frames = re.findall(r"(\d+) %  [\d.]+ cells/s, 0:\d\d left  loss \[0\.25\]", said)
    assert 20 <= len(frames) <= 30  # at most five a second
    hidden, shown = said.rfind("\x1b[?25l"), said.rfind("\x1b[?25h")
    assert 0 <= hidden < shown  # the cursor is back
    assert said.endswith("\x1b[2K") or said.rstrip("\r").endswith("\x1b[2K")  # the line is empty


@pytest.mark.parametrize("terminal", [True, False])
def test_work_beyond_its_estimate_has_neither_share_nor_time_left(
    terminal: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    file = Terminal() if terminal else io.StringIO()
    with Progress(file=file) as bar:
        for done in (0.5, 0.997, 1.0, 1.0):
            clock.now += 40
            bar.update(done, 1, "loss 0.25")
        late = file.getvalue().rpartition("99")[2]
        assert "? %" in late if terminal else "?%  loss 0.25" in late
        assert "left" not in late[late.index("?") :]
        bar.update(1.0, 2, "")
        clock.now += 40
        bar.update(1.5, 2, "loss 0.25")
        assert re.search(r"75 ?%  .*left  loss", file.getvalue().rpartition("?")[2])
    assert not re.search(r"100 ?%", file.getvalue())


def test_stderr_is_found_when_it_is_needed(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress() as bar:
        bar.update(1, 2, "quiet")
    assert capfd.readouterr() == ("", "")


def test_an_exception_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), Progress(file=io.StringIO()):
        _: Any = 1 / 0


def test_a_narrow_terminal_keeps_one_line(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with Progress(file=file) as bar:
        for i in range(5):
            clock.now += 1
            bar.update(i, 10, "beta=0.25,gamma0=0.001,seed=0  loss 0.123, 0.456, 0.789, 0.1")
    drawn = file.getvalue()[: file.getvalue().rfind("\x1b[?25h")]
    assert "…" in drawn and "\n" not in drawn.strip()
