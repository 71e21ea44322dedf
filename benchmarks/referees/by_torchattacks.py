"""torchattacks on FGSM, PGD and Auto-PGD: networks, attacks and exchange of `attack_referee`."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import attack_referee as attacks
from benchmarks.referees.environments import ROOT, AbsentError
from benchmarks.referees.ruling import Ruling
from ntkscale.robustness import correct
from ntkscale.tasks import images

SIZE = 100
"""Images attacked, of the digits."""
WEAKER = 0.05
"""Auto-PGD begins at random: on 100 samples 3 are seen to differ either way."""
VERSION = "from importlib.metadata import version; print(version('torchattacks'))"


def rule(seed: int, cases: int) -> list[Ruling]:
    """One MLP and one CNN for every case, with radii drawn anew.

    Raises:
        AbsentError: no torchattacks.
    """
    python = ROOT / ".venv-peers" / "bin" / "python"
    if not python.exists():
        raise AbsentError("no .venv-peers: run `make bench-environment`")
    said = subprocess.run([python, "-c", VERSION], capture_output=True, text=True, check=False)
    if said.returncode:
        raise AbsentError("no torchattacks in .venv-peers: run `make bench-environment`")
    referee = f"torchattacks {said.stdout.strip()}"
    generator = np.random.default_rng(seed)
    worst = {(attack, what): 0.0 for attack in attacks.ATTACKS for what in ("pixels", "weaker by")}
    for _ in range(cases):
        own = int(generator.integers(2**31))
        torch.manual_seed(own)
        task: Any = images("digits", test_size=SIZE, seed=own, scale="pixels")
        eps = {"linf": generator.uniform(0.05, 0.15), "l2": generator.uniform(0.3, 0.8)}
        nets = {kind: attacks.train(kind, task.inputs, task.labels) for kind in ("MLP", "CNN")}
        x, labels = task.test_inputs, task.test_labels
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            radii = {"eps": eps["linf"], "eps_l2": eps["l2"]}
            attacks.store(folder, "task", {"x": x.numpy(), "labels": labels.numpy(), **radii})
            for kind, net in nets.items():
                weights = {key: value.numpy() for key, value in net.state_dict().items()}
                attacks.store(folder, kind, weights)
            command = [python, "-m", "benchmarks.attack_referee", "--peer", name]
            subprocess.run(command, cwd=ROOT, check=True)
            answers = attacks.stored(folder, "answers")
        for kind, net in nets.items():
            for attack in attacks.ATTACKS:
                moved = attacks.own(net, x, labels, attack, eps).detach()
                theirs = torch.from_numpy(answers[f"{kind} {attack}"])
                here, there = (
                    int(correct(net(adversarial).detach(), labels).sum())
                    for adversarial in (moved, theirs)
                )
                # A gradient that is zero up to rounding may have either sign.
                share = float(((moved - theirs).abs() > 1e-5).double().mean())
                for what, value in (("pixels", share), ("weaker by", (here - there) / SIZE)):
                    worst[attack, what] = max(worst[attack, what], value)
    rows = []
    for attack in attacks.ATTACKS:
        if not attack.startswith(attacks.RANDOM):
            title = f"{attack}: share of pixels that differ by more than 1e-5"
            rows.append(Ruling(title, referee, 2 * cases, worst[attack, "pixels"], 0.02))
        title = f"{attack}: samples it leaves right beyond the referee's, share"
        rows.append(Ruling(title, referee, 2 * cases, worst[attack, "weaker by"], WEAKER))
    return rows
