from pathlib import Path

import pytest

from ntkscale.faces import train

COMMAND = "circle --beta 0.5 1.25 --width 64 --angles 16 --points 32 --steps 200 --wandb disabled"


def contents(run: Path) -> dict[str, bytes]:
    files = [run / name for name in ("metrics.jsonl", "results.json", "config.json")]
    files += [file for part in ("kernels", "weights") for file in (run / part).rglob("*")]
    return {str(f.relative_to(run)): f.read_bytes() for f in files if f.is_file()}


# The processes are forked by a parent whose test runner has threads; they use none of them.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_several_processes_end_with_the_bytes_of_one(tmp_path: Path) -> None:
    for workers in (1, 3):
        words = f"{COMMAND} --runs {tmp_path} --name of{workers} --workers {workers}"
        assert train.main(words.split()) == 0
    one, several = (contents(tmp_path / "circle" / f"of{workers}") for workers in (1, 3))
    assert one == several
    assert not (tmp_path / "circle" / "of3" / "parts").exists()
