"""Tables of `train.py adversarial-kernel`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ntkscale.experiments.adversarial_kernel.claims import Claim, eps_name
from ntkscale.experiments.adversarial_kernel.features import SHUFFLES
from ntkscale.experiments.adversarial_kernel.measures import (
    Classifiers,
    Features,
    Networks,
    by_pair,
    pair_name,
)
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.reporting import Entry, Table
from ntkscale.runs import Run

Row = dict[str, Entry | str | float | int | None]
LISTED = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Features that a table of single ones has, or the nearest that were attacked."""


def share(values: Sequence[float]) -> Entry:
    """Mean of shares over seeds; no end of its interval is outside 0 to 1."""
    found = mean_over_seeds(values)
    if found.interval is None:
        return found
    low, high = found.interval
    return Entry(found.value, (max(0.0, low), min(1.0, high)))


def _over_seeds(count: int) -> str:
    return "One seed." if count == 1 else f"Mean over {count} seeds with 95 % interval."


def claim_table(claims: Sequence[Claim], seeds: int) -> Table:
    """What holds."""
    note = f"Mean over {seeds} seeds with 95 % interval by Student's t. " if seeds > 1 else ""
    judged = any(one.bound for one in claims)
    if not judged:
        note += "Not judged: bounds are for the presets on Fashion-MNIST, finished."
    columns = ["claim", "found", "bound"] if judged else ["claim", "found"]
    rows: list[Row] = [
        {"claim": one.what, "found": one.found} | ({"bound": one.bound} if judged else {})
        for one in claims
    ]
    return Table("Claims", columns, rows, note)


def pair_table(found: Sequence[Features], settings: AdversarialKernelSettings) -> Table:
    """One row a pair: correlations, leading features against all."""
    largest, top = int(np.argmax(settings.eps)), settings.top
    first, strong = eps_name(settings, 0), eps_name(settings, largest)
    rows: list[Row] = []
    for pair, own in by_pair(found).items():
        sums = [(one.cumulative, one.leading(top)) for one in own]
        rows.append(
            {
                "pair": f"{pair[0]}-{pair[1]} {pair_name(settings, pair)}",
                "Spearman, robustness": _correlation(own, "robust"),
                "Spearman, usefulness": _correlation(own, "useful"),
                f"clean, first {top}": share([s.clean[k] for s, k in sums]),
                "clean, all": share([s.clean[-1] for s, _ in sums]),
                f"FGSM {first}, first {top}": share([s.attacked[0, k] for s, k in sums]),
                f"FGSM {first}, all": share([s.attacked[0, -1] for s, _ in sums]),
                f"{strong}, all": share([s.attacked[largest, -1] for s, _ in sums]),
            }
        )
    if len(rows) > 10:
        for row in rows:  # many pairs: the number is enough
            for name, entry in row.items():
                if isinstance(entry, Entry):
                    row[name] = Entry(entry.value, digits=entry.digits)
        rows.sort(key=lambda row: -float(getattr(row["Spearman, robustness"], "value", 0) or 0))
    note = (
        f"Rank correlation of a feature's index (0: largest eigenvalue) with its robustness under "
        f"FGSM {first} against itself, and with its usefulness. Accuracies on the test set."
    )
    return Table("Pairs of classes", list(rows[0]), rows, note)


def _correlation(own: Sequence[Features], name: str) -> Entry:
    values = [one.spearman[name][0] for one in own]
    return mean_over_seeds(values, [one.spearman[name][2:] for one in own])


def early_table(own: Sequence[Features], settings: AdversarialKernelSettings) -> Table:
    """Accuracy of f_t at every stop."""
    rows: list[Row] = []
    for place, stop in enumerate(settings.stops):
        row = _accuracies([one.early for one in own], place, settings)
        few = {
            "FGSM, few": share([one.fgsm[place] for one in own]).value,
            "PGD-10, few": share([one.pgd[place] for one in own]).value,
        }
        rows.append({"t": f"{stop:g}", **row, **few})
    note = (
        f"{_over_seeds(len(own))} Random signs are of "
        f"{eps_name(settings, 0)}. Few: {own[0].robust.total} samples, at that eps too."
    )
    name = pair_name(settings, own[0].pair)
    return Table(f"Early stopping, {name}: accuracy of f_t", list(rows[0]), rows, note)


def cumulative_table(own: Sequence[Features], settings: AdversarialKernelSettings) -> Table:
    """Accuracy of sums of leading features."""
    rows: list[Row] = [
        {"features": int(k), **_accuracies([one.cumulative for one in own], place, settings)}
        for place, k in enumerate(own[0].counts)
    ]
    name = pair_name(settings, own[0].pair)
    return Table(f"Leading features as classifiers, {name}", list(rows[0]), rows)


def _accuracies(own: Sequence[Classifiers], place: int, settings: AdversarialKernelSettings) -> Row:
    row: Row = {
        "clean": share([one.clean[place] for one in own]),
        "random signs": share([one.random[place] for one in own]),
    }
    for which in np.argsort(settings.eps):
        attacked = [one.attacked[which, place] for one in own]
        row[f"FGSM {eps_name(settings, int(which))}"] = share(attacked)
    return row


def single_table(one: Features, settings: AdversarialKernelSettings) -> Table:
    """Usefulness and robustness of some features of one seed, with exact intervals."""
    useful, robust = one.useful.interval(), one.robust.interval()
    places = dict.fromkeys(int(np.abs(one.index - wanted).argmin()) for wanted in LISTED)
    rows: list[Row] = [
        {
            "feature": int(one.index[k]),
            "usefulness": Entry(float(one.useful.value[k]), _pair(useful[k])),
            "robustness": Entry(float(one.robust.value[k]), _pair(robust[k])),
        }
        for k in places
    ]
    note = (
        f"Seed {one.seed}; exact binomial 95 % intervals on {one.useful.total} samples, and on "
        f"{one.robust.total} attacked by FGSM {eps_name(settings, 0)} through that feature alone."
    )
    name = pair_name(settings, one.pair)
    return Table(f"Single features, {name}", list(rows[0]), rows, note)


def _pair(interval: np.ndarray) -> tuple[float, float]:
    return float(interval[0]), float(interval[1])


def held_out_table(found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings) -> Table:
    """How many features far down are useful, beside what shuffled labels give."""
    rows: list[Row] = []
    for one in found:
        robust = np.array(one["robust"]) / one["attacked"]
        shuffled = one["training_shuffled"]
        rows.append(
            {
                "pair": pair_name(settings, (one["a"], one["b"])),
                "seed": one["seed"],
                "useful": one["found"],
                f"from {one['beyond']} on": one["found_beyond"],
                "held-out labels shuffled": f"{np.mean(one['chance']):.2f} (at most "
                f"{max(one['chance'])})",
                "training labels shuffled": f"{np.mean(shuffled):.0f} ({min(shuffled)} to "
                f"{max(shuffled)})",
                "best usefulness": one["best_beyond"],
                "their robustness, mean": float(robust.mean()) if len(robust) else None,
                "largest": float(robust.max()) if len(robust) else None,
            }
        )
    one = found[0]
    note = (
        f"Of {one['features']} features those whose usefulness exceeds 1/2 at a false-discovery "
        f"rate of 5 %, on {one['samples']} samples that the kernel has not seen. Controls: "
        f"{SHUFFLES} shuffles; with training labels shuffled a feature keeps its direction and "
        f"takes its sign by luck. Robustness: of the up to {settings.features} most useful ones "
        f"under FGSM {eps_name(settings, 0)}, on {one['attacked']} samples."
    )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table("Useful features far down the spectrum", columns, rows, note)


def set_table(found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings) -> Table:
    """Sets of features as classifiers, over seeds."""
    rows: list[Row] = []
    for pair in dict.fromkeys((one["a"], one["b"]) for one in found):
        own = [one["sets"] for one in found if (one["a"], one["b"]) == pair]
        for name in own[0]["name"]:
            some = [(sets, sets["name"].index(name)) for sets in own if name in sets["name"]]
            sizes = sorted({sets["size"][k] for sets, k in some})
            rows.append(
                {
                    "pair": pair_name(settings, pair),
                    "features": name,
                    "how many": " to ".join(str(s) for s in dict.fromkeys((sizes[0], sizes[-1]))),
                    "clean": share([s["clean"][k] / s["of"] for s, k in some]),
                    f"FGSM {eps_name(settings, 0)}": share(
                        [s["attacked"][k] / s["of"] for s, k in some]
                    ),
                }
            )
    note = (
        f"Sums of features. The useful ones were chosen on one half of the held-out samples (5 % "
        f"false discoveries), and all sets tried on {found[0]['sets']['of']} of the other half."
    )
    return Table("Sets of features as classifiers", list(rows[0]), rows, note)


def consistency_table(
    record: dict[str, Any], kernels: Sequence[dict[str, Tensor]], top: int
) -> Table:
    """Every kernel against the infinite MLP of one layer, at the leading features."""
    names, counts = record["names"], record["counts"]
    place = int(np.abs(np.array(counts) - top).argmin())
    rows: list[Row] = []
    for position, name in enumerate(names[1:], start=1):
        overlap, correlation = (
            mean_over_seeds([float(k[what][place, 0, position]) for k in kernels])
            for what in ("overlap", "correlation")
        )
        rows.append({"kernel": name, "overlap": overlap, "correlation": correlation})
    again = len(names) - 1
    same = share([float(k["overlap"][place, again - 1, again]) for k in kernels])
    also = mean_over_seeds([float(k["correlation"][place, again - 1, again]) for k in kernels])
    rows.append({"kernel": "the two cnn with each other", "overlap": same, "correlation": also})
    note = (
        f"With the {names[0]}: |V1^T V2|^2 / k of the leading k = {counts[place]} "
        f"eigenvectors on the training samples (by chance {record['chance'][place]:.3f}), and "
        "correlation of the sum of these features over test inputs. Mean over pairs and seeds."
    )
    return Table("Are features the same in other kernels?", list(rows[0]), rows, note)


def transfer_table(
    found: Sequence[Networks],
    kernel: Sequence[dict[str, Any]],
    settings: AdversarialKernelSettings,
    name: str,
) -> Table:
    """Networks over widths at equal flow time; `name` says which classes."""
    rows: list[Row] = [
        {
            "network": "the kernel itself",
            "training mse": mean_over_seeds([one["mse"] for one in kernel]),
            "clean": share([one["test_accuracy"] for one in kernel]),
            "random signs": share([one["noise_accuracy"] for one in kernel]),
            "own FGSM": share([one["fgsm_accuracy"] for one in kernel]),
        }
    ]
    rows += [
        {"network": f"width {one.width}", **_row(one, "kernel at t")}
        for one in found
        if one.gamma0 is None
    ]
    limit = "of infinite width"
    if settings.kernel == "cnn":
        limit = f"of a network of {settings.channels} channels with other weights"
    note = (
        f"{settings.transfer_size} training samples, flow time {settings.transfer_time:g}, eps "
        f"{eps_name(settings, 0)}, as lazy as the paper's networks. {_over_seeds(len(kernel))} "
        f"Kernel: {limit}, at equal flow time. Cosine: of input gradients, network and kernel, "
        "mean over test images. Movement: |theta_t - theta_0| / |theta_0|."
    )
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(f"Transfer over widths, {name}", columns, rows, note)


def ladder_table(
    found: Sequence[Networks], settings: AdversarialKernelSettings, name: str
) -> Table:
    """Networks from lazy to rich at equal training loss; `name` says which classes."""
    rows: list[Row] = []
    for one in found:
        if one.gamma0 is not None:
            row: Row = {
                "gamma0": f"{one.gamma0:g}",
                "flow time": mean_over_seeds(one.each("time"), digits=0),
                **_row(one, "kernel"),
            }
            for kernel in ("K_0", "K_T"):
                row[f"{kernel}'s attack"] = share(one.each(kernel))
                row[f"cosine, {kernel}"] = mean_over_seeds(one.each(f"cosine, {kernel}"))
            rows.append(row)
    gone = sum(one.diverged for one in found)
    note = (
        f"Width {settings.ladder_width}; networks stop where their training mse is the kernel's at "
        f"t = {settings.transfer_time:g}, and all kernels are taken where theirs is the network's. "
        "K_0 and K_T: the network's own kernels at the start and at the end."
        + (f" Diverged, and left out: {gone}." if gone else "")
    )
    return Table(f"Transfer, lazy to rich, {name}", list(rows[0]), rows, note)


def _row(one: Networks, kernel: str) -> Row:
    return {
        "training mse": mean_over_seeds(one.each("mse")),
        "clean": share(one.each("test_accuracy")),
        "random signs": share(one.each("noise_accuracy")),
        "own FGSM": share(one.each("fgsm_accuracy")),
        "kernel's attack": share(one.each(kernel)),
        "cosine": mean_over_seeds(one.each(f"cosine, {kernel}")),
        "movement": mean_over_seeds(one.each("movement")),
    }


def ten_class_table(
    run: Run, found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings
) -> Table:
    """Ten classes at every stop, and what they cost."""
    rows: list[Row] = []
    for place, stop in enumerate(settings.stops):
        row: Row = {"t": f"{stop:g}"}
        for name in ("clean", "random"):
            row[name] = share([one[name][place] / one["tested"] for one in found])
        for which in np.argsort(settings.eps):
            attacked = [one["attacked"][place][which] / one["tested"] for one in found]
            row[f"FGSM {eps_name(settings, int(which))}"] = share(attacked)
        for name, title in (("fgsm", "FGSM, few"), ("pgd", "PGD-10, few")):
            row[title] = share([one[name][place] / one["attacked_few"] for one in found])
        rows.append(row)
    one = found[0]
    note = (
        f"{settings.size} training and {one['tested']} test images; few: {one['attacked_few']} of "
        f"them, at {eps_name(settings, 0)}."
    )
    if costs := [line for line in run.timings if "fit_seconds" in line]:
        note += (
            f" Fitting took {costs[-1]['fit_seconds']:.0f} s, attacking all test images by "
            f"{len(settings.eps)} sizes {costs[-1]['attack_seconds']:.0f} s; peak memory "
            f"{costs[-1]['peak_gib']:.1f} GiB."
        )
    return Table("Ten classes", list(rows[0]), rows, note)
