"""How results look: figures, verdict tables, the report, live progress and the W&B record.

Everything takes plain arrays and fits, wherever they came from, and names from `ntkscale.schema`.
"""

from ntkscale.reporting.curves import Curve, draw_curves
from ntkscale.reporting.distance_map import draw_distance_map
from ntkscale.reporting.kernel_pictures import draw_kernel_pictures
from ntkscale.reporting.progress import Progress
from ntkscale.reporting.report import Picture, Section, write_report
from ntkscale.reporting.scrub import scrub
from ntkscale.reporting.spectra import Spectrum, draw_source, draw_spectrum
from ntkscale.reporting.style import (
    COLOURS,
    axis_label,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.reporting.table import Entry, Mark, Table, show
from ntkscale.reporting.wandb_log import WandbLog
from ntkscale.reporting.workspace import build_workspace, definition, save_workspace

__all__ = [
    "COLOURS",
    "Curve",
    "Entry",
    "Mark",
    "Picture",
    "Progress",
    "Section",
    "Spectrum",
    "Table",
    "WandbLog",
    "axis_label",
    "build_workspace",
    "definition",
    "draw_curves",
    "draw_distance_map",
    "draw_kernel_pictures",
    "draw_source",
    "draw_spectrum",
    "house_style",
    "ladder",
    "new_figure",
    "save_figure",
    "save_workspace",
    "scrub",
    "show",
    "write_report",
]
