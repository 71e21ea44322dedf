"""Everything there is to check on a GPU, in one command; without a GPU one line says so.

    make cuda-check    # or: python -m benchmarks.cuda_check [--quick]

Runs the tests marked `cuda`, the kernel of every model of the tests' zoo on the GPU against the
processor's, and W1 to W6 against the peers there (`benchmarks.cuda_speed`), with memory and the
rate reached.
"""

import argparse
import copy
import subprocess
import sys
from pathlib import Path

import torch

from ntkscale import ntk
from tests.ntk import zoo
from tests.reference.ntk import cast, each, kernel

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}
"""Largest difference over the largest entry: what the tests grant the processor."""


def compare(name: str, device: str, seed: int) -> str:
    """What is wrong with a model's kernel on the device; empty if nothing is."""
    model, x1, x2 = zoo.draw(name, seed)
    for second in (None, x2):
        want = ntk.gram(model, x1, second, output="full")
        scale = want.abs().max()
        for dtype, tolerance in TOLERANCE.items():
            moved = copy.deepcopy(cast(model, dtype)).to(device)
            inputs = [each(lambda t: t.to(device), cast(x, dtype)) for x in (x1, x2)]
            got = ntk.gram(
                moved, inputs[0], inputs[1] if second is not None else None, output="full"
            )
            error = float((got.cpu().double() - want).abs().max() / (scale if scale > 0 else 1))
            if dtype == torch.float64 and not error <= tolerance:
                # Some of PyTorch's own operations are rougher there (weight norm takes a root in
                # float32): then the kernel has to be that of the function as it is there.
                own = kernel(moved, *inputs[: 1 if second is None else 2], output="full")
                error = float((got - own).abs().max() / own.abs().max())
            if not error <= tolerance:
                return f"{dtype}, {'x1 and x2' if second is not None else 'x1'}: off by {error:.1e}"
    return ""


def check_zoo(device: str, seed: int) -> bool:
    """Every model of the zoo on the device; prints those that differ."""
    wrong: dict[str, str] = {}
    for name in zoo.MODELS:
        try:
            complaint = compare(name, device, seed)
        except Exception as error:
            complaint = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
        if complaint:
            wrong[name] = complaint
    right = len(zoo.MODELS) - len(wrong)
    print(f"kernels of the zoo, seed {seed}: {right} of {len(zoo.MODELS)} right")
    for name, complaint in wrong.items():
        print(f"  {name}: {complaint}")
    return not wrong


def main() -> int:
    """0 if there is no GPU or all is well on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks in the timings")
    parser.add_argument("--seed", type=int, default=0, help="of the zoo")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was checked")
        return 0
    device = torch.cuda.get_device_properties(0)
    print(f"{device.name}, {device.total_memory / 2**30:.0f} GiB, torch {torch.__version__}")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "cuda", "tests"], cwd=ROOT, check=False
    )
    right = check_zoo("cuda", options.seed)
    peers = ROOT / ".venv-peers" / "bin" / "python"  # where the peers are
    command = [str(peers), "-m", "benchmarks.cuda_speed", "--rounds", str(options.rounds)]
    command += ["--json", "cuda_check.json", *["--quick"] * options.quick]
    timed = subprocess.run(command, cwd=ROOT, check=False).returncode
    return int(bool(tests.returncode) or not right or bool(timed))


if __name__ == "__main__":
    sys.exit(main())
