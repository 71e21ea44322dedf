"""How every experiment trains: group after group of cells, recorded and resumable."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ntkscale.experiments.cell_group import CellGroup
from ntkscale.experiments.cells import Cell
from ntkscale.experiments.settings import Common, Training, configuration, resolve_device
from ntkscale.experiments.side_by_side import PARTS, Report, train_side_by_side
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder, open_run
from ntkscale.runs.folder import RESULTS
from ntkscale.training import Optimisation, process_group, rank, ranks


def train_cells(
    experiment: str,
    settings: Training,
    groups: Sequence[Sequence[Cell]],
    optimisation: Optimisation,
    *,
    automatic_workers: int,
) -> RunFolder | None:
    """Train every group of cells in order; what an earlier call of the same run did is kept.

    Started by `torchrun`, every process trains on its share of the data and the first records.

    Args:
        experiment: name of the command.
        settings: its options; they are the run's configuration and say where its folder lies.
        groups: cells of one group are trained together as one batched ensemble.
        optimisation: how every cell is trained.
        automatic_workers: processes side by side where the settings leave it open.

    Returns:
        The run's folder; None on all processes but the first.

    Raises:
        ValueError: several workers on a device that they cannot share.
        RunFolderError: the folder holds another run, or cannot be written.
        KeyboardInterrupt: Ctrl-C; what was done is kept and the same command goes on from there.
    """
    workers = worker_count(settings, automatic_workers)
    with process_group(resolve_device(settings.device)) as device:
        folder = open_folder(experiment, settings) if rank() == 0 else None
        if _from_first(None if folder is None else folder.finished):
            return folder
        home = _run_path(experiment, settings)
        # A run goes on in the way it was begun.
        apart = folder is not None and (
            (home / PARTS).exists() or (workers > 1 and folder.load_checkpoint() is None)
        )
        with Progress() as progress:

            def report(done: float, text: str) -> None:
                progress.update(done, len(groups), text)

            def train(
                part: RunFolder | None, share: Sequence[Sequence[Cell]], tell: Report
            ) -> None:
                _train_in_order(part, share, optimisation, device, settings, home, tell)

            if folder is not None and apart:
                config = configuration(experiment, settings)
                train_side_by_side(folder, config, groups, train, workers, report)
            else:
                train(folder, groups, report)
        return folder


def worker_count(settings: Training, automatic: int) -> int:
    """How many processes train side by side.

    Raises:
        ValueError: several on a device that they cannot share.
    """
    single = int(os.environ.get("WORLD_SIZE", "1")) == 1
    possible = single and resolve_device(settings.device).type == "cpu"
    if settings.workers < 0 or (settings.workers > 1 and not possible):
        raise ValueError(
            f"--workers {settings.workers} needs a number of processes, --device cpu and no "
            "torchrun; leave it out."
        )
    return settings.workers or (automatic if possible else 1)


def _train_in_order(
    folder: RunFolder | None,
    groups: Sequence[Sequence[Cell]],
    optimisation: Optimisation,
    device: torch.device,
    settings: Training,
    home: Path,
    report: Report,
) -> None:
    """Train what is not done yet, from where the last checkpoint left it."""
    saved, done = _from_first(
        None if folder is None else (folder.load_checkpoint(), folder.results())
    )
    for position, cells in enumerate(groups):
        if all(cell.name in done for cell in cells):
            continue

        def tell(share: float, text: str, position: int = position) -> None:
            report(position + share, text)

        tell(0.0, cells[0].name)
        group = CellGroup(folder, cells, optimisation, device, home, tell)
        if saved is not None and saved[1]["group"] == group.name:
            group.restore(*saved)
        group.run(settings.wandb)
    if folder is not None:
        folder.finish()


def open_folder(experiment: str, settings: Common) -> RunFolder:
    """The run's folder, new or taken up again; unless named, it is named after its options.

    Raises:
        RunFolderError: it holds another run, or cannot be written.
    """
    return open_run(_run_path(experiment, settings), configuration(experiment, settings))


@contextmanager
def new_folder_unless_refused(experiment: str, settings: Common) -> Iterator[RunFolder]:
    """`open_folder`; a folder that is new goes again where its options turn out to be impossible.

    The same options would be refused again: nothing of it could ever be finished. Once a cell is
    done the folder stays, whatever goes wrong later.

    Raises:
        ValueError: started by torchrun, whose processes would write into one folder.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"{experiment} does not spread over torchrun's processes: start it alone.")
    path = _run_path(experiment, settings)
    made = [one for one in (path, path.parent, settings.runs) if not one.exists()]
    folder = open_folder(experiment, settings)
    try:
        yield folder
    except ValueError:
        begun = folder.results() or any(
            json.loads(part.read_text())["results"] for part in (path / PARTS).glob(f"*/{RESULTS}")
        )
        folder.close()
        if path in made and not begun:
            shutil.rmtree(path)
            for one in made[1:]:
                if not any(one.iterdir()):
                    one.rmdir()
        raise


def _run_path(experiment: str, settings: Common) -> Path:
    text = json.dumps(configuration(experiment, settings), sort_keys=True)
    name = settings.name or hashlib.sha256(text.encode()).hexdigest()[:8]
    if Path(name).name != name:
        raise ValueError(f"--name {name} is no name of one folder: say with --runs where it lies.")
    return settings.runs / experiment / name


def _from_first(value: Any) -> Any:
    """The value that the first process has, on every process."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
