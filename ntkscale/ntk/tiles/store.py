"""The files of one kernel on disk, and what they can look like after a kill at any moment.

    kernel.npy                    complete
    kernel.npy.manifest.json      its checksums
    kernel.npy.partial            being written
    kernel.npy.partial.0.jsonl    what rank 0 has written of it (.1.jsonl: rank 1, ...)
    kernel.npy.lock               held by the one job that works on them

Names change in an order in which a manifest never lies beside a kernel it does not describe, and
journals outlive every renaming. So the states are:

    partial, journals        go on
    partial, no journals     nothing is known about it: begin anew
    journals, no partial,    the kernel was complete (or being repaired) and not yet (no longer)
      no manifest            under its name: go on with the named file
    manifest                 complete; journals without a partial file are left over
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ntkscale.ntk.tiles.disk import header, open_own, reserve, sync_folder
from ntkscale.ntk.tiles.job import Job
from ntkscale.ntk.tiles.manifest import (
    Sums,
    by_block,
    read_journal,
    read_manifest,
    write_journal,
    write_manifest,
)


@dataclass(frozen=True)
class Found:
    """What is on disk of a job.

    Attributes:
        job: the one asked for; of a complete kernel, cut into the blocks it was written in.
        complete: whether it lies under its own name, with a manifest.
        sums: blocks that are said to be there.
    """

    job: Job
    complete: bool
    sums: Sums


class Store:
    """The files of one kernel; changed by rank 0 alone, under the lock.

    Args:
        path: of the finished kernel.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.manifest = path.with_name(f"{path.name}.manifest.json")
        self.lock = path.with_name(f"{path.name}.lock")

    def journal(self, rank: int) -> Path:
        """Name of a rank's journal."""
        return self.path.with_name(f"{self.partial.name}.{rank}.jsonl")

    def data(self, found: Found) -> Path:
        """The file in which the blocks that were found lie."""
        return self.path if found.complete else self.partial

    def look(self, job: Job) -> Found:
        """What there is of a job. Another complete kernel under that name counts for nothing.

        Raises:
            ValueError: another kernel is half written under this name, or what lies there is no
                file.
        """
        if self.partial.exists() and not self.partial.is_file():  # a pipe would be waited for
            raise ValueError(f"{self.partial} is no file; delete it or choose another path.")
        complete = self._complete(job)
        if complete is not None:
            return complete
        if self.partial.exists():
            return Found(job, False, self._journalled(job))
        if not self.manifest.exists() and self._begins_like(job):
            sums = self._journalled(job)
            if sums:
                self.path.replace(self.partial)
                return Found(job, False, sums)
        return Found(job, False, {})

    def tidy(self) -> None:
        """Remove the journals that a kill right after the manifest was written has left behind."""
        if not self.partial.exists():
            self._remove_journals()

    def begin(self, found: Found, intact: Sums) -> None:
        """Make the partial file ready to be written to, and rank 0's journal say what is intact.

        Raises:
            OSError: there is no room for the kernel; without intact blocks nothing is left behind.
            ValueError: a complete kernel is to be repaired while another is half written.
        """
        job = found.job
        if found.complete and self.partial.exists():
            raise ValueError(self._in_the_way())
        if found.complete or not intact:
            # Those of another job must not outlive the moment the partial file becomes ours.
            self._remove_journals()
        if found.complete:
            write_journal(self.journal(0), job, intact)
            self.manifest.unlink()
            sync_folder(self.path)
            self.path.replace(self.partial)
        descriptor = open_own(self.partial, os.O_RDWR | os.O_CREAT)
        try:
            reserve(descriptor, job, self.path)
        except OSError:
            if not intact:
                self.partial.unlink()
                self._remove_journals()
            raise
        finally:
            os.close(descriptor)
        write_journal(self.journal(0), job, intact)
        self._remove_journals(keep=self.journal(0))
        sync_folder(self.path)

    def finish(self, job: Job, sums: Sums) -> None:
        """Give the kernel, whose bytes all ranks have brought to disk, its name and its manifest.

        Raises:
            OSError: a file cannot be written or renamed; the same job goes on from there.
        """
        if self.manifest.exists():
            self.manifest.unlink()
            sync_folder(self.path)
        self.partial.replace(self.path)
        sync_folder(self.path)
        write_manifest(self.manifest, job, sums)
        self._remove_journals()

    def _complete(self, job: Job) -> Found | None:
        """The complete kernel, in blocks of whatever size, if it is the one asked for."""
        try:
            written, grid = read_manifest(self.manifest)
        except (OSError, ValueError):
            return None
        # The size of a block is how a kernel was computed, not which.
        asked = Job(job.shape, job.dtype, written.block, job.symmetric, job.fingerprint)
        if written != asked or not self._begins_like(written):
            return None
        return Found(written, True, by_block(written, grid))

    def _begins_like(self, job: Job) -> bool:
        """Whether the file under the name has the header of this job."""
        expected = header(job)
        if not self.path.is_file():
            return False
        try:
            with self.path.open("rb") as file:
                return file.read(len(expected)) == expected
        except OSError:
            return False

    def _journalled(self, job: Job) -> Sums:
        """What the journals say is done; that of another job matters only beside its file."""
        sums: Sums = {}
        for journal in self._journals():
            begun, entries = read_journal(journal, job)
            if begun is not None and begun != job and self.partial.exists():
                raise ValueError(self._in_the_way())
            sums |= entries
        return sums

    def _in_the_way(self) -> str:
        return (
            f"{self.partial} is part of another kernel (another model, other inputs or blocks); "
            "delete it or choose another path."
        )

    def _journals(self) -> list[Path]:
        prefix, suffix = f"{self.partial.name}.", ".jsonl"
        return sorted(
            file
            for file in self.path.parent.iterdir()
            if file.name.startswith(prefix)
            and file.name.endswith(suffix)
            and file.name[len(prefix) : -len(suffix)].isdigit()
            and file.is_file()
        )

    def _remove_journals(self, *, keep: Path | None = None) -> None:
        for journal in self._journals():
            if journal != keep:
                journal.unlink()
