"""The roofline: how fast this machine multiplies float32 matrices."""

import time

import torch

SIZES = (1024, 2048, 4096)


def best_rate(threads: int, device: str) -> dict[str, float]:
    """Multiply-adds a second of `torch.mm`, best over square sizes; by process and by wall time."""
    torch.set_num_threads(threads)
    best = {"process": 0.0, "wall": 0.0}
    for size in SIZES:
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        out = torch.empty(size, size, device=device)
        torch.mm(a, b, out=out)
        # As many as take about as long as one of the largest; each counts for itself.
        for _ in range(max(1, (SIZES[-1] // size) ** 2 // 2)):
            if device == "cuda":
                torch.cuda.synchronize()
            started, wall = time.process_time(), time.perf_counter()
            torch.mm(a, b, out=out)
            if device == "cuda":
                torch.cuda.synchronize()
            took = {"process": time.process_time() - started, "wall": time.perf_counter() - wall}
            for clock, seconds in took.items():
                best[clock] = max(best[clock], size**3 / max(seconds, 1e-9))
    return best
