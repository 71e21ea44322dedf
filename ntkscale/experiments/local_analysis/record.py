"""The W&B record of students: one W&B run each."""

from collections.abc import Sequence

from ntkscale.experiments.local_analysis.settings import EXPERIMENT, LocalAnalysisSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.reporting import WandbLog


def open_logs(
    settings: LocalAnalysisSettings, desk: Desk, piece: Piece, kind: str, names: Sequence[str]
) -> dict[str, WandbLog]:
    """A W&B run for every student of a piece, by its name; `kind` is what the names are."""
    return {
        name: WandbLog(
            settings.wandb,
            desk.home,
            name=f"{piece.name},{kind}={name}",
            group=f"{EXPERIMENT}/{desk.home.name}",
            config={**desk.folder.config, **piece.key, kind: name},
        )
        for name in names
    }
