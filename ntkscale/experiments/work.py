"""Pieces of work of a run, one after the other, each resumable.

Where an experiment does more than train cells, whatever it does is a *piece*: it has a key like a
cell, does its work with the run's folder at hand, and ends in a record. Pieces of a group depend on
those before them and are done in order; groups are independent, and may be done side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ntkscale.experiments.cells import cell_name
from ntkscale.experiments.settings import Common
from ntkscale.experiments.train_cells import new_folder_unless_refused
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder

Saved = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Desk:
    """What a piece works with.

    Attributes:
        folder: the open run (or part of one): where rows, kernels, weights and results go.
        home: folder of the whole run, where W&B's files lie.
        saved: the state that this very piece saved before it was interrupted, or None.
        tell: called with the share of the piece that is done, and a text.
    """

    folder: RunFolder
    home: Path
    saved: Saved | None
    tell: Callable[[float, str], object]


@dataclass(frozen=True)
class Piece:
    """Some seconds of work, or hours.

    Attributes:
        key: what sets it apart, the first entry what kind it is; becomes columns and record.
        do: does it and returns its record. What it saves by `save_piece` it finds again.
    """

    key: dict[str, Any]
    do: Callable[[Desk, "Piece"], dict[str, Any]]

    @property
    def name(self) -> str:
        """Its name on disk."""
        return piece_name(self.key)


def piece_name(key: Mapping[str, Any]) -> str:
    """Name of the piece with that key: its kind, then the rest."""
    (_, kind), *rest = key.items()
    return f"{kind},{cell_name(dict(rest))}"


def save_piece(desk: Desk, piece: Piece, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Make now the moment at which the piece is taken up again after a kill."""
    desk.folder.save_checkpoint(tensors, {"piece": piece.name, "meta": meta})


def do_pieces(
    folder: RunFolder,
    pieces: Sequence[Piece],
    home: Path,
    report: Callable[[float, str], object],
) -> None:
    """Do what is not done yet.

    Args:
        folder: the open run.
        pieces: in the order in which they need each other.
        home: see `Desk`.
        report: called with the number of pieces done, fractions included, and a text.

    Raises:
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    checkpoint = folder.load_checkpoint()
    done = folder.results()
    for position, piece in enumerate(pieces):
        report(position, piece.name)
        if piece.name in done:
            continue
        saved = None
        if checkpoint is not None and checkpoint[1].get("piece") == piece.name:
            saved = checkpoint[0], checkpoint[1]["meta"]

        def tell(share: float, text: str, position: int = position, name: str = piece.name) -> None:
            report(position + share, f"{name}  {text}")

        record = piece.do(Desk(folder, home, saved, tell), piece)
        folder.write_result(piece.name, {**piece.key, **record})
        folder.save_checkpoint({}, {"piece": None, "after": piece.name})


def run_pieces(experiment: str, settings: Common, pieces: Sequence[Piece]) -> RunFolder:
    """Do all pieces of a run in one process, or take an interrupted run up again.

    Args:
        experiment: name of the command.
        settings: its options, expanded; they are the run's configuration.
        pieces: of the run.

    Returns:
        The run's folder, finished.

    Raises:
        ValueError: what a piece refuses, or a run that `new_folder_unless_refused` does.
        KeyboardInterrupt: Ctrl-C; what is done is kept.
    """
    with new_folder_unless_refused(experiment, settings) as folder:
        if not folder.finished:
            with Progress() as progress:

                def report(done: float, text: str) -> None:
                    progress.update(done, len(pieces), text)

                do_pieces(folder, pieces, folder.path, report)
            folder.finish()
    return folder
