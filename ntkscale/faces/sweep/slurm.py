"""Runs as jobs of submitit: on Slurm, or as processes of this machine in the same way."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ntkscale.faces.command_line import REQUEUE
from ntkscale.faces.sweep.axes import Point
from ntkscale.faces.sweep.folder import SweepFolder, finished
from ntkscale.faces.sweep.local import threads
from ntkscale.faces.sweep.point import Train, run_point, write_to
from ntkscale.faces.sweep.schedule import NO_CODE
from ntkscale.runs import write_text
from ntkscale.training import StopSignals

Cluster = Literal["auto", "local", "slurm"]

MINUTES = 240
"""Time limit of a job unless told otherwise; a run that meets it is queued again and goes on."""

_ARRAY = 500  # jobs handed over at once: clusters bound the size of an array
_TIMEOUTS = 1000  # how often a job may meet its time limit


class PointJob:
    """What a job does: one run. Before its time is up submitit asks it for what is left to do.

    Args:
        train: `train.py` itself.
        words: of the run.
        run: its folder.
        log: where its output goes.
    """

    def __init__(self, train: Train, words: Sequence[str], run: Path, log: Path) -> None:
        self.train, self.words, self.run, self.log = train, list(words), run, log

    def __call__(self) -> int:
        """Do the run; the exit code of `train.py`, which is left beside the log too.

        Asked to make room, by SIGUSR1 or submitit's own signal, the run saves its state, the job is
        queued again, and this process ends.
        """
        write_to(self.log)
        with StopSignals() as stop, _to_usr1() as queue_again:
            try:
                code = run_point(self.train, self.words, self.run)
            except KeyboardInterrupt:
                code = REQUEUE
            if stop.by == signal.SIGUSR1 and not finished(self.run):
                queue_again()
        write_text(_code_file(self.log), f"{code}\n")
        return code

    def checkpoint(self) -> Any:
        """The same again: a run resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SubmititJobs:
    """Submits runs as jobs, remembers them in `jobs.json` and says how they ended.

    Args:
        train: `train.py` itself.
        folder: of the sweep.
        jobs: at once; 0: as many as there are cores, on Slurm as it pleases.
        cores: of this machine.
        cluster: where.
        options: KEY=VALUE for submitit: its own names (``time`` in minutes, ``mem_gb``,
            ``gpus_per_node``), or those of its Slurm executor without their prefix.

    Raises:
        ValueError: submitit is missing, there is no Slurm, or an option is not known.
    """

    def __init__(
        self,
        train: Train,
        folder: SweepFolder,
        *,
        jobs: int,
        cores: int,
        cluster: Cluster,
        options: Sequence[str],
    ) -> None:
        self._submitit = _import()
        self._train, self._folder = train, folder
        self.cluster = find_cluster(cluster)
        # Slurm has a queue of its own, a machine would start all at once.
        self.slots = (jobs or cores) if self.cluster == "local" else len(folder.plan.points)
        self._recorded = folder.jobs()
        self._parameters = parameters(options)
        if jobs:
            self._parameters["slurm_array_parallelism"] = jobs
        self._parameters.setdefault("timeout_min", MINUTES)
        self._parameters.setdefault("name", f"{folder.plan.experiment}-{folder.path.name}")
        self._running: dict[str, Any] = {}
        cpus = self._parameters.get("cpus_per_task", 1) if self.cluster == "slurm" else threads()
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))  # jobs inherit it

    def adopt(self) -> set[str]:
        """Names of points whose job an earlier launcher submitted and that has not ended."""
        for point in self._folder.plan.points:
            recorded = self._recorded.get(point.name)
            if recorded is not None and not self._folder.finished(point):
                job = self._job(recorded)
                if not self._done(job):
                    self._running[point.name] = job
        return set(self._running)

    def start(self, points: Sequence[Point]) -> None:
        """Submit a job for each; on Slurm as arrays."""
        size = 1 if self.cluster == "local" else _ARRAY
        for first in range(0, len(points), size):
            self._submit(points[first : first + size])

    def ended(self, seconds: float) -> list[tuple[str, int]]:
        """Names and exit codes of jobs that ended; a job that left no code counts as a death."""
        time.sleep(seconds)
        found = []
        for name, job in list(self._running.items()):
            if self._done(job):
                found.append((name, _code(self._folder.path / "logs" / f"{name}.log")))
                del self._running[name]
        return found

    def stop(self) -> None:
        """Leave the jobs of a cluster alone; end those of this machine, which keep what is done."""
        local = [job for job in self._running.values() if self._is_local(job)]
        for job in local:
            _interrupt(int(job.job_id))
        while any(not self._done(job) for job in local):
            time.sleep(0.1)

    def close(self) -> None:
        """Nothing is held."""

    def _submit(self, points: Sequence[Point]) -> None:
        # Process numbers, which name local jobs, come again: each hand-over has its own folder.
        place = self._folder.path / "submitit" / f"{time.time_ns()}"
        keywords = {"slurm_max_num_timeout": _TIMEOUTS} if self.cluster == "slurm" else {}
        for point in points:
            _code_file(self._folder.log(point)).unlink(missing_ok=True)
        executor = self._submitit.AutoExecutor(place, cluster=self.cluster, **keywords)
        executor.update_parameters(**self._parameters)
        with _stderr_to(place / "controllers.log", self.cluster == "local"):
            jobs = executor.submit_array([self._work(point) for point in points])
        for point, job in zip(points, jobs, strict=True):
            self._running[point.name] = job
            self._recorded[point.name] = {
                "cluster": self.cluster,
                "id": job.job_id,
                "folder": str(place),
            }
        self._folder.write_jobs(self._recorded)

    def _work(self, point: Point) -> PointJob:
        folder = self._folder
        return PointJob(self._train, folder.command(point), folder.run(point), folder.log(point))

    def _job(self, recorded: dict[str, str]) -> Any:
        kind = self._submitit.SlurmJob
        if recorded["cluster"] == "local":
            kind = self._submitit.LocalJob
        return kind(recorded["folder"], recorded["id"])

    def _is_local(self, job: Any) -> bool:
        return isinstance(job, self._submitit.LocalJob)

    def _done(self, job: Any) -> bool:
        if self._is_local(job) and job._process is None:  # of an earlier launcher
            return not _alive(job.job_id)
        return job.done()


def find_cluster(cluster: Cluster) -> Literal["local", "slurm"]:
    """Where jobs go.

    Raises:
        ValueError: submitit is missing, or Slurm is asked for where there is none.
    """
    there = _import().SlurmExecutor.affinity() > 0
    if cluster == "auto":
        return "slurm" if there else "local"
    if cluster == "slurm" and not there:
        raise ValueError("--cluster slurm: no srun is found here; use --cluster local, or log in.")
    return cluster


def parameters(options: Sequence[str]) -> dict[str, Any]:
    """What submitit's `update_parameters` is given.

    Raises:
        ValueError: an entry that is not KEY=VALUE, or a key that submitit does not know.
    """
    submitit = _import()
    general = {"mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "timeout_min", "name"}
    of_slurm = submitit.SlurmExecutor._valid_parameters()
    found: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or not text:
            raise ValueError(f"--slurm {option} is not KEY=VALUE, such as partition=gpu.")
        key = {"time": "timeout_min", "job_name": "name"}.get(key, key)
        if key not in general and key not in of_slurm:
            raise ValueError(
                f"--slurm {option}: submitit knows no {key}; it knows "
                f"{', '.join(sorted(general | of_slurm))}."
            )
        value = int(text) if text.isdigit() else text
        if key in general - {"name"} and not isinstance(value, int):
            unit = " of minutes" if key == "timeout_min" else ""
            raise ValueError(f"--slurm {option}: {key} is a whole number{unit}.")
        found[key if key in general else f"slurm_{key}"] = value
    return found


def _import() -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError(
            "--launcher submitit needs submitit; install it by `pip install 'ntkscale[sweeps]'`, "
            "or use --launcher local."
        ) from None
    return submitit


@contextmanager
def _to_usr1() -> Iterator[Callable[[], object]]:
    """Pass on submitit's signal as SIGUSR1, on which a training saves its state; what submitit
    itself would do then, which is not to return, is left to the end.

    Its own handler may come in the middle of a step and loses what was done since the last save.
    """
    number = signal.Signals[f"SIG{_import().JobEnvironment.USR_SIG}"]
    theirs = signal.getsignal(number)

    def queue_again() -> None:
        for one in (number, signal.SIGUSR1):  # these come more than once
            signal.signal(one, signal.SIG_IGN)
        if callable(theirs):
            theirs(number, None)

    if number != signal.SIGUSR1:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGUSR1))
    try:
        yield queue_again
    finally:
        signal.signal(number, theirs)


def _code_file(log: Path) -> Path:
    return log.with_name(f"{log.name}.code")


def _code(log: Path) -> int:
    """Exit code of a job that is over.

    Submitit keeps it in a pickle; a sweep that is taken up again may come from anywhere, and
    reading a pickle runs what is in it.
    """
    try:
        return int(_code_file(log).read_text())
    except (OSError, ValueError):
        return NO_CODE


def _alive(number: str) -> bool:
    """Whether the process that controls a local job is there, and is not another one by now."""
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return False
    return b"submitit.local" in words


def _interrupt(controller: int) -> None:
    """Ctrl-C for a local job: its controller passes it on and sees that it ends."""
    if _alive(str(controller)):
        os.kill(controller, signal.SIGINT)


@contextmanager
def _stderr_to(path: Path, wanted: bool) -> Iterator[None]:
    """Give what is started meanwhile a file as stderr: controllers would write into the table."""
    if not wanted:
        yield
        return
    sys.stderr.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    before, target = os.dup(2), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(target, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(target)
