"""What is read off a kernel, and off its path from initialisation on."""

from collections.abc import Sequence
from math import nan
from typing import Any

from torch import Tensor

from ntkscale import ntk
from ntkscale.ntk.eigenspaces import flattened
from ntkscale.tracking import DistanceMap

CLEAN, ADVERSARIAL = "clean", "adversarial"
PROBES = (CLEAN, ADVERSARIAL)
"""The probe itself, and as it is attacked at the moment of each look."""
PARTS = ("full", "top", "bottom")
"""The whole kernel, its leading eigenspaces, the rest."""


def shares(kernel: Tensor, top: int) -> dict[str, float]:
    """What the leading eigenvalues hold of trace and squares, centred or not; nan once diverged."""
    row: dict[str, float] = {}
    for prefix, one in (("", kernel), ("centred_", ntk.centred(kernel))):
        finite = bool(one.isfinite().all())
        row[f"{prefix}trace_share"] = ntk.trace_share(one, top) if finite else nan
        row[f"{prefix}squared_share"] = ntk.squared_share(one, top) if finite else nan
    return row


def path_record(path: Sequence[Tensor], top: int) -> dict[str, Any]:
    """Distances, norms and the polar path of kernels K_0 to K_T, as JSON-able lists.

    The record: ``distances`` (T, T); ``norm`` |K_t| (T,); for each of `PARTS` ``<part>_radius`` and
    ``<part>_angle`` (T,), in radians, of the kernels with all else projected out at each time.
    """
    distances = DistanceMap()
    for kernel in path:
        distances.add(kernel)
    leading = [ntk.eigenspace_part(kernel, top=top) for kernel in path]
    parts = {
        "full": path,
        "top": leading,
        "bottom": [flattened(k) - part for k, part in zip(path, leading, strict=True)],
    }
    record: dict[str, Any] = {
        "distances": distances.distances().tolist(),
        "norm": [float(kernel.norm()) for kernel in path],
    }
    for name, kernels in parts.items():
        radius, angle = ntk.polar(kernels)
        record[f"{name}_radius"], record[f"{name}_angle"] = radius.tolist(), angle.tolist()
    return record
