"""The verdict on `train.py adversarial-training`: claims, tables by attack and seed, words."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.adversarial_training.claims import (
    Claim,
    claims,
    learned_early,
    pairs,
    rotation_in_words,
)
from ntkscale.experiments.adversarial_training.figures import (
    draw_accuracies,
    draw_distances,
    draw_linearised,
    draw_motion,
    draw_polar,
    draw_shares,
)
from ntkscale.experiments.adversarial_training.kernels import CLEAN, PROBES
from ntkscale.experiments.adversarial_training.ladder import draw_ladder, ladder_table
from ntkscale.experiments.adversarial_training.measures import Trained, of_attack, trained
from ntkscale.experiments.adversarial_training.pictures import draw_strips
from ntkscale.experiments.adversarial_training.pieces import TITLES
from ntkscale.experiments.adversarial_training.settings import (
    AdversarialTrainingSettings,
    settings_of,
)
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Picture, Section, Table
from ntkscale.runs import Run

MOMENTS = (0.0, 1.0, 5.0)
"""Epochs at which the table shows shares, besides the end."""


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = settings_of(run)
    title = f"Adversarial training, {settings.preset}: {run.path.name}"
    late = "" if run.finished else " The run is not finished: this is what is done."
    found, dead = trained(run, settings)
    if not found:
        none = "No network is trained to its end and measured."
        return Verdict(title, f"{none}{_left_out(run, dead)}{late}", [], [])
    by_richness = {g: [one for one in found if one.gamma0 == g] for g in _richness(found)}
    tables: list[Table] = []
    sections: list[Section] = []
    said: list[str] = []
    if len(by_richness) > 1:
        tables.append(ladder_table(by_richness, settings))
        picture = draw_ladder(by_richness, settings, run.path / "figures")
        sections.append(Section("Lazy to rich", figures=[picture]))
    for gamma0, own in by_richness.items():
        name = "" if gamma0 is None else f", gamma0 = {gamma0:g}"
        tables += _tables(own, settings, name, run.finished)
        sections += _sections(run, own, settings, gamma0, name)
        said += _words(own, settings, name)
    entries = [row.get("found") for table in tables for row in table.rows]
    judged = [one.mark for one in entries if isinstance(one, Entry) and one.mark]
    if judged:
        rough = judged.count("rough")
        open_ = f", {rough} too rough to judge" if rough else ""
        said.insert(0, f"{judged.count('pass')} of {len(judged)} claims hold{open_}.")
    return Verdict(title, " ".join(said) + _left_out(run, dead) + late, tables, sections)


def _richness(found: Sequence[Trained]) -> list[float | None]:
    return list(dict.fromkeys(one.gamma0 for one in found))


def _left_out(run: Run, dead: Sequence[str]) -> str:
    names = [name for name, one in run.results.items() if one.get("status") == "diverged"]
    said = f" Diverged, and left out: {', '.join(names)}." if names else ""
    return said + (f" Dead (kernel zero), and left out: {', '.join(dead)}." if dead else "")


def _tables(
    own: Sequence[Trained], settings: AdversarialTrainingSettings, name: str, finished: bool
) -> list[Table]:
    tables = [_by_attack(own, settings, name), _by_seed(own, settings, name)]
    if listed := claims(own, settings, finished):
        tables.insert(0, _claims(listed, own, name))
    if any(np.isfinite(one.linear_clean).any() for one in own):
        tables.append(_linearised(own, name))
    return tables


def _claims(listed: Sequence[Claim], own: Sequence[Trained], name: str) -> Table:
    rows = [
        {"claim": one.what, "probe": one.probe, "found": one.found, "bound": one.bound}
        for one in listed
    ]
    attacks = {one.attack for one in own} - {"none"}
    seeds = max(len(pairs(own, attack)) for attack in attacks)
    note = (
        f"Means over {seeds} seeds, paired with standard training of the same seed, 95 % intervals "
        "by Student's t (distance and velocity: geometric means). Adversarial probe: the probe as "
        "attacked at each moment, for standard networks too."
    )
    columns = ["claim", "probe", "found"]
    if not any(one.bound for one in listed):
        rows = [{column: row[column] for column in columns} for row in rows]
        note += " Not judged: bounds are for the finished preset fashion-mlp."
        return Table(f"Claims{name}", columns, rows, note)
    note += " A claim holds where its whole interval is within the bound."
    return Table(f"Claims{name}", [*columns, "bound"], rows, note)


def _by_attack(own: Sequence[Trained], settings: AdversarialTrainingSettings, name: str) -> Table:
    top, end = settings.top, own[0].epochs[-1]
    moments = [e for e in MOMENTS if e < end]
    rows = []
    for attack in settings.attack:
        mine = of_attack(own, attack)
        for probe in PROBES if mine else ():
            paths = [one.paths[probe] for one in mine]
            row: dict[str, Entry | str] = {"training": TITLES[attack], "probe": probe}
            if probe == CLEAN:
                row |= {
                    "clean": mean_over_seeds([one.clean[-1] for one in mine]),
                    "FGSM": mean_over_seeds([one.fgsm[-1] for one in mine]),
                    f"PGD-{settings.eval_steps}": mean_over_seeds([one.robust[-1] for one in mine]),
                }
            for epochs in moments:
                mean = mean_over_seeds([p.shares["trace_share"][p.at(epochs)] for p in paths])
                row[f"share at {epochs:g}"] = Entry(mean.value)
            row |= {
                "share at end": mean_over_seeds([p.shares["trace_share"][-1] for p in paths]),
                "|K_T|/|K_0|": mean_over_seeds([p.growth for p in paths], digits=2),
                "angle at 2": _angle([p.angle["full"][p.at(2.0)] for p in paths]),
                "angle at end": _angle([p.angle["full"][-1] for p in paths]),
                "ratio": mean_over_seeds([p.early_rotation for p in paths], digits=2),
            }
            rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    note = (
        f"Accuracies on {settings.test_size or 'all'} test images at the end, attacked with eps = "
        f"{settings.eps:g}/255. Share: of the trace in the {top} largest eigenvalues. Angle to K_0 "
        f"in degrees, after 2 epochs and at the end ({end:g}); ratio of the two. Means over seeds."
    )
    return Table(f"By training{name}", columns, rows, note)


def _by_seed(own: Sequence[Trained], settings: AdversarialTrainingSettings, name: str) -> Table:
    rows = []
    for attack in settings.attack:
        for one in of_attack(own, attack):
            for probe in PROBES:
                path = one.paths[probe]
                rows.append(
                    {
                        "training": TITLES[attack],
                        "seed": str(one.seed),
                        "probe": probe,
                        "clean": Entry(one.clean[-1]),
                        "robust": Entry(one.robust[-1]),
                        "trace share": Entry(path.shares["trace_share"][-1]),
                        "centred": Entry(path.shares["centred_trace_share"][-1]),
                        "squared": Entry(path.shares["squared_share"][-1], digits=4),
                        "squared, centred": Entry(path.shares["centred_squared_share"][-1]),
                        "|K_T|/|K_0|": Entry(path.growth, digits=2),
                        "angle at 2": Entry(path.angle["full"][path.at(2.0)], digits=1),
                        "angle at end": Entry(path.angle["full"][-1], digits=1),
                        "ratio": Entry(path.early_rotation, digits=2),
                        "S(K_2, K_T)": Entry(path.left_early, digits=4),
                        "late velocity": Entry(path.late_velocity, digits=4),
                    }
                )
    note = (
        "At the end of training. Squared shares of kernels that are not centred are close to 1 "
        "whatever the training: one constant eigenvector holds them. Late velocity: S an epoch, "
        "over the last quarter."
    )
    return Table(f"Every network{name}", list(rows[0]), rows, note)


def _linearised(own: Sequence[Trained], name: str) -> Table:
    rows = []
    for attack in dict.fromkeys(one.attack for one in own if len(one.spawn)):
        mine = of_attack(own, attack)
        for position, spawn in enumerate(mine[0].spawn):
            rows.append(
                {
                    "training": TITLES[attack],
                    "linearised at [epochs]": f"{spawn:g}",
                    "clean": mean_over_seeds([one.linear_clean[position] for one in mine]),
                    "robust": mean_over_seeds([one.linear_robust[position] for one in mine]),
                    "all attacks": mean_over_seeds([one.linear_worst[position] for one in mine]),
                    "network there, clean": _there(mine, "clean", spawn),
                    "robust there": _there(mine, "robust", spawn),
                    "full network, clean": _end(mine, "clean"),
                    "its robust": _end(mine, "robust"),
                    "under all": mean_over_seeds([one.worst for one in mine]),
                }
            )
    note = (
        "Adversarial training goes on with the network linearised at its weights then; the attack "
        "is on the linearised network. With ReLU that one jumps in its inputs, which its gradient "
        "does not see: robust is an upper bound. All attacks: PGD on cross-entropy and on the "
        "margin, for linearised networks also through the full one. Means over seeds."
    )
    return Table(f"Linearised adversarial training{name}", list(rows[0]), rows, note)


def _there(mine: Sequence[Trained], name: str, epochs: float) -> Entry:
    return Entry(mean_over_seeds([getattr(one, name)[one.at(epochs)] for one in mine]).value)


def _end(mine: Sequence[Trained], name: str) -> Entry:
    return Entry(mean_over_seeds([getattr(one, name)[-1] for one in mine]).value)


def _angle(degrees: Sequence[float]) -> Entry:
    return mean_over_seeds(degrees, digits=1)


def _sections(
    run: Run,
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    gamma0: float | None,
    name: str,
) -> list[Section]:
    folder = run.path / "figures"
    suffix = "" if gamma0 is None else f"_gamma0={gamma0:g}"
    images: list[Picture] = draw_strips(run, own, settings, folder, suffix, name)
    kernels = [
        draw_shares(own, settings, folder, suffix, name),
        draw_polar(own, settings, folder, suffix, name),
        draw_motion(own, settings, folder, suffix, name),
        draw_distances(own, settings, folder, suffix, name),
    ]
    accuracies = [draw_accuracies(own, settings, folder, suffix, name)]
    if any(np.isfinite(one.linear_clean).any() for one in own):
        accuracies.append(draw_linearised(own, settings, folder, suffix, name))
    return [
        Section(f"Adversarial images{name}", figures=images),
        Section(f"Accuracies{name}", figures=accuracies),
        Section(f"Kernels{name}", figures=kernels),
    ]


def _words(own: Sequence[Trained], settings: AdversarialTrainingSettings, name: str) -> list[str]:
    where = f"{name.removeprefix(', ')}: " if name else ""
    found: list[str] = []
    for attack in [one for one in settings.attack if one != "none"]:
        found += [rotation_in_words(own, attack, probe) for probe in PROBES]
        found.append(learned_early(own, attack))
    return [f"{where}{one}" for one in found if one]
