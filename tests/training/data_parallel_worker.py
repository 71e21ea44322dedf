"""One process of the data-parallel test: trains, and rank 0 saves what came out."""

import sys

import torch
from problems import network, regression

from ntkscale.training import Ensemble, Optimisation, Trainer, process_group, rank

CASES = {
    "flow": Optimisation(method="flow", steps=60, horizon=5.0),
    "sgd": Optimisation(steps=25, batch_size=7, learning_rate=0.05),
    "adam": Optimisation(method="adam", steps=25, learning_rate=0.01),
    "ensemble": Optimisation(method="momentum", steps=25, batch_size=9, learning_rate=0.01),
}


def train(case: str) -> dict[str, torch.Tensor]:
    task = regression(points=23, inputs=4, outputs=2, seed=1)  # an odd number: unequal shares
    nets = [network(task, seed=seed, gamma0=1.2) for seed in (0, 1)]
    trainer = Trainer(Ensemble(nets) if case == "ensemble" else nets[0], task, CASES[case], seed=2)
    losses = []
    trainer.run(measure_at=[0.5], on_measure=lambda t: losses.append(t.evaluate()["mse"]))
    return trainer.state()[0] | {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "recent": torch.tensor(trainer.recent_loss, dtype=torch.float64),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group():
        results = {case: train(case) for case in CASES}
        if rank() == 0:
            torch.save(results, sys.argv[1])
        else:
            assert all(not len(result["losses"]) for result in results.values())
