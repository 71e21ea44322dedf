"""The seal of a finished run: checksums by which a later change of its files is known."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ntkscale.runs.errors import RunFolderError

_SEALED = ("config.json", "metrics.jsonl", "kernels/manifest.json", "weights/manifest.json")


def sealed(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` of a finished run holds: its content and the seal.

    The manifests hold the checksums of kernels and weights. Wall times and the environment, which
    differ from one computation of the same run to the next, are not sealed.

    Args:
        path: the run folder, complete but for `results.json`.
        content: of `results.json`, without its version.
    """
    files = {name: _sha256(path / name) for name in _SEALED if (path / name).exists()}
    content = {**content, "files": files}
    return {**content, "sha256": _digest(content)}


def require_seal(path: Path, content: dict[str, Any]) -> None:
    """Check that nothing was changed since the run was finished; older runs have no seal.

    Args:
        path: the run folder.
        content: of `results.json`, without its version.

    Raises:
        RunFolderError: a file is missing or not what it was.

    Cost: one read of `metrics.jsonl` and of the manifests.
    """
    if "sha256" not in content:
        return
    inner = {key: value for key, value in content.items() if key != "sha256"}
    files = content.get("files")
    # No path that leads elsewhere is followed.
    whole = _digest(inner) == content["sha256"]
    if whole and isinstance(files, dict) and files.keys() <= set(_SEALED):
        changed = [name for name, checksum in files.items() if _sha256(path / name) != checksum]
    else:
        changed = ["results.json"]
    if changed:
        raise RunFolderError(
            f"{path / changed[0]} was changed since the run was finished (its checksum differs); "
            "restore it from a copy, or start the run anew in another folder."
        )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    """Checksum of a file; that of nothing where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
