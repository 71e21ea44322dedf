"""The W&B record of one training: beside the local files, and never in the way of training."""

import io
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import matplotlib as mpl
import numpy as np

from ntkscale.reporting.wandb_agent import agents_run
from ntkscale.schema import QUANTITIES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL.Image import Image

LEADING = 8
"""So many of a list of eigenvalues have a key of their own: ``<name>/01`` and on."""

_PICTURE = 256  # pixels
_REACH_SECONDS = 3.0
_INIT_SECONDS = 10.0
_FINISH_SECONDS = 60.0


class WandbLog:
    """One W&B run, under the names of `ntkscale.schema`; several may be open at once.

    It asks nothing and waits for nobody: ``"online"`` without credentials or network becomes
    ``"offline"``. Whatever goes wrong in W&B ends this record with one line on stderr, and nothing
    else. What is logged, and against which axis, stands in `ntkscale/reporting/README.md`.

    Args:
        mode: ``"offline"`` writes to `<folder>/wandb/`, for `wandb sync` to send later.
        folder: of the run.
        name: of the W&B run: the cell.
        group: what holds runs together: the experiment and the run's name.
        config: of the run, with the cell's keys.
        job: what is recorded: a cell, or the verdict on all of them. Under a sweep's agent the
            verdict is the agent's run, with the parameters that it was given; cells, of which there
            may be many and in several processes, are runs of their own.
    """

    _online_failed: ClassVar[bool] = False

    def __init__(
        self,
        mode: Literal["offline", "online", "disabled"],
        folder: Path,
        *,
        name: str,
        group: str,
        config: Mapping[str, Any],
        job: Literal["cell", "verdict"] = "cell",
    ) -> None:
        self._run: Any = None
        self._folder = folder
        self._axes_known = False
        if mode == "disabled":
            return
        said = {"dir": folder, "name": name, "group": group, "config": dict(config)}
        said |= {"job_type": job}
        if mode == "online" and not WandbLog._online_failed:
            self._attempt(lambda: self._start("online", said), "offline")
            # A run of many cells waits for a missing network once.
            WandbLog._online_failed = self._run is None
        if self._run is None:
            self._attempt(lambda: self._start("offline", said), "not")

    @property
    def recording(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._run is not None

    def log(self, row: Mapping[str, Any] | None) -> None:
        """Record one row of metrics; text, None and what `ntkscale.schema` does not know is left.

        Args:
            row: schema names to numbers or lists of numbers; None, such as a tracker returns when
                no look is due, records nothing.
        """
        if self._run is not None and row is not None:
            self._attempt(lambda: self._log(row))

    def log_kernel_picture(self, name: str, matrix: "ArrayLike", time: float) -> None:
        """Record a kernel as a picture, at most 256 pixels wide, on a scale from 0 to its maximum.

        A kernel with negative entries is shown on a scale symmetric about zero.

        Args:
            name: of the series of pictures.
            matrix: (n, n) on the CPU.
            time: flow time (Adam: steps), the pictures' own axis.
        """
        if self._run is not None:
            self._attempt(lambda: self._log_picture(name, matrix, time))

    def log_figures(self, figures: Mapping[str, Path]) -> None:
        """Record PNG files as the series of images ``figures``, their names as captions.

        Args:
            figures: names to files.
        """
        if self._run is not None:
            self._attempt(lambda: self._log_figures(figures))

    def conclude(
        self,
        summary: Mapping[str, str | float],
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str | float | None]]]],
    ) -> None:
        """Record what stands in the table of runs, and tables of its own.

        Args:
            summary: by column of the table of runs.
            tables: by key: names of columns, and rows. A column holds text or numbers, or None.
        """
        if self._run is not None:
            self._attempt(lambda: self._conclude(summary, tables))

    def finish(self) -> None:
        """Close the record; later calls do nothing."""
        run, self._run = self._run, None
        if run is not None:
            self._attempt(run.finish)

    def _attempt(self, work: Callable[[], object], otherwise: str = "no longer") -> None:
        try:
            # W&B's own complaints would be further lines.
            with redirect_stderr(io.StringIO()):
                work()
        except (Exception, SystemExit) as error:  # it has been known to leave by the latter
            self._run = None
            what = str(error).strip().splitlines()
            reason = f"{type(error).__name__}{': ' + what[0] if what else ''}"
            _warn(f"W&B: {reason}; recording {_OUTCOMES[otherwise]}, local files are complete.")
            gone = isinstance(error, ConnectionError) or type(error).__name__ in _SERVICE_GONE
            if gone and (wandb := sys.modules.get("wandb")):
                # The service is gone. Said now, or else it says so at exit, in thirty lines.
                with suppress(Exception), redirect_stderr(io.StringIO()):
                    wandb.teardown()

    def _start(self, mode: Literal["offline", "online"], said: dict[str, Any]) -> None:
        import wandb  # takes a second, which --wandb disabled need not pay

        # Taken out of the environment before W&B reads it: it would make one run of all cells.
        agent = agents_run()
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            symlink=False,
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
        )
        meant = agent is not None and said["job_type"] == "verdict" and not agent.taken
        if agent is not None and meant:
            settings.run_id, settings.sweep_id = agent.run_id or None, agent.sweep_id or None
            said = {**said, "config": said["config"] | agent.parameters}
        with _cache_somewhere(said["dir"]):
            if mode == "online":
                sign_in(settings)
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "ntkscale",
                mode=mode,
                reinit="create_new",
                settings=settings,
                **said,
            )
        if agent is not None and meant:
            agent.taken = True
        for axis in ("step", "time", _PICTURE_TIME):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric(f"{PICTURES}/*", step_metric=_PICTURE_TIME)

    def _log(self, row: Mapping[str, Any]) -> None:
        if not self._axes_known:
            # Adam has no flow time: everything lies on the axis of steps then.
            timed = row.get("time") is not None
            for quantity in QUANTITIES.values():
                if quantity.name not in ("step", "time"):
                    axis = quantity.axis if timed else "step"
                    key = quantity.name if quantity.shape == "scalar" else f"{quantity.name}/*"
                    self._run.define_metric(key, step_metric=axis)
            self._axes_known = True
        entries: dict[str, Any] = {}
        for name, value in row.items():
            if name in QUANTITIES and value is not None:
                entries |= _entries(name, value)
        self._run.log(entries)

    def _log_picture(self, name: str, matrix: "ArrayLike", time: float) -> None:
        import wandb

        picture, largest = _picture(matrix)
        image = wandb.Image(picture, caption=f"t = {time:.4g}, scale to {largest:.4g}")
        self._run.log({f"{PICTURES}/{name}": image, _PICTURE_TIME: time})

    def _log_figures(self, figures: Mapping[str, Path]) -> None:
        import wandb

        # A series, for a panel cannot be made for keys that differ from run to run.
        for name, path in figures.items():
            self._run.log({FIGURES: wandb.Image(str(path), caption=name)})

    def _conclude(
        self,
        summary: Mapping[str, str | float],
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str | float | None]]]],
    ) -> None:
        import wandb

        self._run.summary.update(dict(summary))
        # A table is kept twice, and `wandb sync` needs the copy: it stays with the run.
        with _environment("WANDB_DATA_DIR", self._folder / "wandb" / "tables"):
            for key, (columns, rows) in tables.items():
                data = [list(row) for row in rows]
                self._run.log({key: wandb.Table(columns=list(columns), data=data)})


PICTURES, FIGURES = "kernel_pictures", "figures"
"""Keys of the images: those of kernels are ``kernel_pictures/<name>``."""

_PICTURE_TIME = f"{PICTURES}/time"
_SERVICE_GONE = {"HandleAbandonedError", "MailboxClosedError"}
_OUTCOMES = {
    "offline": "offline instead",
    "not": "nothing there",
    "no longer": "nothing more there",
}


def _entries(name: str, value: Any) -> dict[str, Any]:
    """What W&B is given for one quantity: a number, or the leading ones and a histogram."""
    shape = QUANTITIES[name].shape
    if shape == "scalar":
        return {name: value}
    shown = value if shape == "layer" else value[:LEADING]
    entries: dict[str, Any] = {f"{name}/{i:02d}": entry for i, entry in enumerate(shown, start=1)}
    positive = [math.log10(entry) for entry in value if entry > 0 and math.isfinite(entry)]
    if shape == "index" and positive:
        import wandb

        entries[f"{name}/log10"] = wandb.Histogram(positive, num_bins=32)
    return entries


def _picture(matrix: "ArrayLike") -> tuple["Image", float]:
    """The matrix in colours, averaged down to 256 pixels, and the value of its brightest one."""
    from PIL import Image

    kernel = np.nan_to_num(np.asarray(matrix, dtype=np.float32))
    picture = Image.fromarray(kernel)
    if max(picture.size) > _PICTURE:
        picture = picture.resize((_PICTURE, _PICTURE), Image.Resampling.BOX)
    values = np.asarray(picture)
    largest = float(np.abs(values).max()) or 1.0
    if (values < 0).any():
        shown = mpl.colormaps["RdBu_r"](0.5 + 0.5 * values / largest, bytes=True)
    else:
        shown = mpl.colormaps["viridis"](values / largest, bytes=True)
    return Image.fromarray(np.ascontiguousarray(shown[..., :3])), largest


def sign_in(settings: Any) -> None:
    """Make sure of a network and an account, without asking.

    Args:
        settings: of W&B, from which it starts if it has not.

    Raises:
        OSError: nobody answers, or no account is configured.
    """
    import wandb

    _reach(wandb.setup(settings).settings.base_url)
    if not wandb.login(prompt=False, verify=False):
        raise PermissionError("no account is configured here, see `wandb login`")


def _reach(url: str) -> None:
    """Fail within seconds where W&B, left to itself, tries for minutes.

    Raises:
        OSError: nobody answers at `url`. Behind a proxy this is left to W&B.
    """
    address = urlsplit(url)
    if not getproxies() and address.hostname is not None:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), timeout=_REACH_SECONDS).close()


@contextmanager
def _cache_somewhere(folder: Path) -> Iterator[None]:
    """Without a home W&B's service would log to the terminal and cache in the current folder."""
    if os.access(os.environ.get("HOME", ""), os.W_OK):
        yield
        return
    with _environment("XDG_CACHE_HOME", folder / "wandb" / "cache"):
        yield


@contextmanager
def _environment(variable: str, folder: Path) -> Iterator[None]:
    """With a folder of ours in a variable of the environment, where it has no value yet."""
    if variable in os.environ:
        yield
        return
    os.environ[variable] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ[variable]


@cache
def _warn(message: str) -> None:
    """One line on stderr, once a process: a run of many cells says it once."""
    sys.stderr.write(f"{message}{os.linesep}")
