"""The attacks against those of torchattacks, on the same trained networks and inputs.

    make bench-environment      # torchattacks, in .venv-peers; once
    python -m benchmarks.attack_referee [--data digits] [--size 300] [--eps 0.1] [--eps-l2 0.5]

Trains an MLP and a CNN, attacks them here and, in a process of the peers' environment, there, and
prints the robust accuracies of both, how many samples they judge differently and, where nothing is
random, the largest difference of the adversarial inputs and the share of pixels that differ by more
than 1e-5 (where a gradient is zero up to rounding, its sign may differ). Exits with 1 when a share
is above 1 %, or when an attack here is weaker by more than 2 % of the samples.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
STEPS, MORE_STEPS = 10, 100

ATTACKS = ("FGSM linf", "PGD linf", "PGD l2", "APGD-CE linf", "APGD-CE l2", "APGD-DLR linf")
ATTACKS += ("APGD-DLR l2",)
RANDOM = "APGD"


def network(kind: str, channels: int, side: int) -> nn.Sequential:
    """The two architectures, made alike in both environments."""
    if kind == "MLP":
        inputs = channels * side * side
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 2) ** 2, 10),
    )


def radius(attack: str, eps: dict[str, float]) -> float:
    """The attack's eps: its norm is the last word of its name."""
    return eps[attack.split()[1]]


def step_size(attack: str, eps: dict[str, float]) -> float:
    """Of the plain attacks: 2.5 eps / steps."""
    return 2.5 * radius(attack, eps) / STEPS


def store(folder: Path, name: str, arrays: dict[str, Any]) -> None:
    """Arrays to an .npz, which every environment reads."""
    np.savez(folder / f"{name}.npz", **arrays)


def stored(folder: Path, name: str) -> dict[str, np.ndarray]:
    """What `store` wrote."""
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def timed(attack: Callable[[], Tensor]) -> tuple[np.ndarray, float]:
    """Adversarial inputs and seconds."""
    started = time.perf_counter()
    moved = attack()
    return moved.detach().numpy(), time.perf_counter() - started


def serve_as_peer(folder: Path) -> None:
    """Attack with torchattacks; runs in the peers' environment."""
    import torchattacks  # pyright: ignore[reportMissingImports]

    task = stored(folder, "task")
    eps = {"linf": float(task["eps"]), "l2": float(task["eps_l2"])}
    x, labels = torch.from_numpy(task["x"]), torch.from_numpy(task["labels"])
    answers: dict[str, Any] = {}
    for kind in ("MLP", "CNN"):
        net = network(kind, x.shape[1], x.shape[2])
        weights = stored(folder, kind)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        net.eval()
        for attack in ATTACKS:
            size, step = radius(attack, eps), step_size(attack, eps)
            method, norm = attack.split()
            if method == "FGSM":
                made = torchattacks.FGSM(net, eps=size)
            elif method == "PGD":
                plain = torchattacks.PGD if norm == "linf" else torchattacks.PGDL2
                made = plain(net, eps=size, alpha=step, steps=STEPS, random_start=False)
            else:
                made = torchattacks.APGD(
                    net,
                    norm=norm.capitalize(),
                    eps=size,
                    steps=MORE_STEPS,
                    loss=method.removeprefix("APGD-").lower(),
                )
            moved, seconds = timed(lambda made=made: made(x, labels))
            answers[f"{kind} {attack}"], answers[f"{kind} {attack} seconds"] = moved, seconds
    store(folder, "answers", answers)


def own(net: nn.Module, x: Tensor, labels: Tensor, attack: str, eps: dict[str, float]) -> Tensor:
    """The same attack by the project."""
    from ntkscale.robustness import Threat, apgd, fgsm, pgd

    method, norm = attack.split()
    threat = Threat(radius(attack, eps), "linf" if norm == "linf" else "l2")
    if method == "FGSM":
        return fgsm(net, x, labels, threat)
    if method == "PGD":
        return pgd(net, x, labels, threat, steps=STEPS)
    loss = "dlr" if method == "APGD-DLR" else "cross-entropy"
    return apgd(net, x, labels, threat, steps=MORE_STEPS, loss=loss)


def train(kind: str, x: Tensor, labels: Tensor) -> nn.Sequential:
    """A network that has learned most of the classes."""
    net = network(kind, x.shape[1], x.shape[2])
    optimiser = torch.optim.Adam(net.parameters(), lr=0.003)
    for _ in range(400):
        batch = torch.randint(len(x), (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), labels[batch]).backward()
        optimiser.step()
    return net.eval()


def report(kind: str, net: nn.Module, task: Any, folder: Path, eps: dict[str, float]) -> bool:
    """Print the rows of one network; whether the two agree."""
    from ntkscale.robustness import correct

    x, labels = task.test_inputs, task.test_labels
    answers, agree = stored(folder, "answers"), True
    right = correct(net(x).detach(), labels)
    print(f"{kind}, clean accuracy {right.double().mean():.3f} on {len(x)} images")
    for attack in ATTACKS:
        moved, seconds = timed(lambda attack=attack: own(net, x, labels, attack, eps))
        theirs, spent = answers[f"{kind} {attack}"], float(answers[f"{kind} {attack} seconds"])
        verdicts = [correct(net(torch.from_numpy(m)).detach(), labels) for m in (moved, theirs)]
        here, there = (int(v.sum()) for v in verdicts)
        apart = np.abs(moved - theirs)
        share = float((apart > 1e-5).mean())
        same = attack.startswith(RANDOM)
        columns = "" if same else f"{apart.max():12.1e} {100 * share:9.3f} %"
        print(
            f"  {attack:14} {here / len(x):10.3f} {there / len(x):12.3f} "
            f"{int((verdicts[0] != verdicts[1]).sum()):10} {seconds:6.2f} {spent:6.2f} {columns}"
        )
        agree &= (same or share <= 0.01) and here - there <= 0.02 * len(x)
    return agree


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="The attacks against torchattacks.")
    parser.add_argument("--data", default="digits", help="of ntkscale.tasks.images")
    parser.add_argument("--size", type=int, default=300, help="images attacked")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--eps-l2", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_as_peer(options.peer)
        return 0
    python = ROOT / ".venv-peers" / "bin" / "python"
    if not python.exists():
        print("no .venv-peers: run `make bench-environment`")
        return 1

    from ntkscale.tasks import images

    torch.manual_seed(options.seed)
    task: Any = images(options.data, test_size=options.size, seed=options.seed, scale="pixels")
    eps = {"linf": options.eps, "l2": options.eps_l2}
    nets = {kind: train(kind, task.inputs, task.labels) for kind in ("MLP", "CNN")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x, labels = task.test_inputs.numpy(), task.test_labels.numpy()
        store(folder, "task", {"x": x, "labels": labels, "eps": options.eps, "eps_l2": eps["l2"]})
        for kind, net in nets.items():
            store(folder, kind, {key: value.numpy() for key, value in net.state_dict().items()})
        subprocess.run(
            [python, "-m", "benchmarks.attack_referee", "--peer", name], cwd=ROOT, check=True
        )
        print(f"{task.name}: eps {eps['linf']:.3g} (linf), {eps['l2']:.3g} (l2)")
        heads = "  attack         robust here torchattacks  different  s here  there"
        print(heads + "   largest gap   pixels")
        agree = [report(kind, net, task, folder, eps) for kind, net in nets.items()]
    return int(not all(agree))


if __name__ == "__main__":
    sys.exit(main())
