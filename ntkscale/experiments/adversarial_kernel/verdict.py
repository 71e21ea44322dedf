"""The verdict on `train.py adversarial-kernel`: claims, tables, figures, and words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkscale.experiments.adversarial_kernel.claims import (
    Claim,
    eps_name,
    of_all_pairs,
    of_features,
    of_held_out,
    of_transfer,
)
from ntkscale.experiments.adversarial_kernel.figures import (
    draw_consistency,
    draw_features,
    draw_pairs,
    draw_transfer,
)
from ntkscale.experiments.adversarial_kernel.image_figures import (
    draw_attacks,
    draw_gradients,
    draw_optimised,
    draw_ten,
    mean_tables,
)
from ntkscale.experiments.adversarial_kernel.measures import (
    Features,
    Networks,
    by_pair,
    features,
    networks,
    pair_name,
    records,
)
from ntkscale.experiments.adversarial_kernel.settings import (
    AdversarialKernelSettings,
    is_preset,
    settings_of,
)
from ntkscale.experiments.adversarial_kernel.tables import (
    claim_table,
    consistency_table,
    cumulative_table,
    early_table,
    held_out_table,
    ladder_table,
    pair_table,
    set_table,
    single_table,
    ten_class_table,
    transfer_table,
)
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run

JUDGED = ("pairs", "all-pairs", "transfer")


class _Found:
    """What the parts add to one verdict."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.tables: list[Table] = []
        self.sections: list[Section] = []
        self.said: list[str] = []


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = settings_of(run)
    judged = run.finished and settings.preset in JUDGED and is_preset(settings)
    found = _Found()
    if own := features(run):
        _judge_features(found, own, settings, run, judged)
    if own := records(run, "held-out"):
        found.claims += of_held_out(own, settings, judged)
        found.tables += [held_out_table(own, settings), set_table(own, settings)]
        found.said.append(_held_out_words(own, settings))
    if own := records(run, "pictures"):
        _draw_pictures(found, own, settings, run)
    if own := records(run, "consistency"):
        _judge_consistency(found, own, settings, run)
    for pair in settings.class_pairs:
        if own := networks(run, pair):
            _judge_transfer(found, own, pair, settings, run, judged)
    if own := records(run, "ten-classes"):
        found.tables.append(ten_class_table(run, own, settings))
        name = next(k for k, one in run.results.items() if one["part"] == "ten-classes")
        picture = draw_ten(run.weights(name), settings, run.path / "figures")
        found.sections.append(Section("Ten classes", figures=[picture]))
        found.said.append(_ten_class_words(own, settings))
    if found.claims:
        found.tables.insert(0, claim_table(found.claims, len(settings.seed)))
    marks = [one.found.mark for one in found.claims if one.found.mark]
    if marks:
        found.said.insert(0, f"{marks.count('pass')} of {len(marks)} claims hold.")
    if not run.finished:
        found.said.append("The run is not finished: this is what is done.")
    title = f"Adversarial kernel, {settings.preset}: {run.path.name}"
    return Verdict(title, " ".join(found.said), found.tables, found.sections)


def _judge_features(
    found: _Found,
    own: Sequence[Features],
    settings: AdversarialKernelSettings,
    run: Run,
    judged: bool,
) -> None:
    folder, pairs = run.path / "figures", by_pair(own)
    found.tables.append(pair_table(own, settings))
    if not settings.in_depth:
        found.claims += of_all_pairs(own, judged)
        found.sections.append(Section("All pairs", figures=[draw_pairs(own, settings, folder)]))
        return
    found.claims += of_features(own, settings, judged)
    for pair, seeds in pairs.items():
        found.tables += [
            early_table(seeds, settings),
            cumulative_table(seeds, settings),
            single_table(seeds[0], settings),
        ]
        picture = draw_features(seeds, settings, folder)
        found.sections.append(Section(f"Features, {pair_name(settings, pair)}", figures=[picture]))
        found.said.append(_early_words(seeds, settings))


def _early_words(own: Sequence[Features], settings: AdversarialKernelSettings) -> str:
    early, late = (
        tuple(float(np.mean(values)) for values in zip(*pairs, strict=True))
        for pairs in (
            [(one.early.clean[k], one.early.attacked[0, k]) for one in own] for k in (0, -1)
        )
    )
    return (
        f"{pair_name(settings, own[0].pair).capitalize()}: stopped at t = {settings.times[0]:g} "
        f"the kernel has {early[0]:.3f} clean and {early[1]:.3f} under FGSM "
        f"{eps_name(settings, 0)}, never stopped {late[0]:.3f} and {late[1]:.3f}."
    )


def _held_out_words(found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings) -> str:
    said = []
    for pair in dict.fromkeys((one["a"], one["b"]) for one in found):
        own = [one for one in found if (one["a"], one["b"]) == pair]
        counts = [one["found_beyond"] for one in own]
        ends = (min(counts), max(counts))
        shuffled = np.mean([one["training_shuffled"] for one in own])
        chance = np.mean([one["chance"] for one in own])
        said.append(
            f"{pair_name(settings, pair)} {' to '.join(map(str, dict.fromkeys(ends)))} of "
            f"{own[0]['features'] - own[0]['beyond']} (training labels shuffled {shuffled:.0f}, "
            f"held-out labels shuffled {chance:.1f})"
        )
    beyond = found[0]["beyond"]
    best = max(one["best_beyond"] for one in found)
    return (
        f"Useful features from {beyond} on, at 5 % false discoveries: {'; '.join(said)}. The best "
        f"of them is right on {best:.3f}."
    )


def _ten_class_words(found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings) -> str:
    shares = [
        (np.array(one["clean"]), np.array(one["attacked"])[:, 0]) / np.array(one["tested"])
        for one in found
    ]
    clean, attacked = np.mean(shares, axis=0)
    best = int(attacked.argmax())
    return (
        f"Ten classes: under FGSM {eps_name(settings, 0)} the kernel keeps most at t = "
        f"{settings.stops[best]:g}, {attacked[best]:.3f} of {clean[best]:.3f}; never stopped "
        f"{attacked[-1]:.3f} of {clean[-1]:.3f}."
    )


def _draw_pictures(
    found: _Found, own: Sequence[dict[str, Any]], settings: AdversarialKernelSettings, run: Run
) -> None:
    folder = run.path / "figures"
    for name, record in run.results.items():
        if record["part"] != "pictures":
            continue
        pair, saved = (record["a"], record["b"]), run.weights(name)
        figures = [
            draw_attacks(saved, pair, settings, folder),
            draw_gradients(saved, record["shown"], pair, settings, folder),
            draw_optimised(saved, record, pair, settings, folder),
        ]
        found.sections.append(Section(f"Images, {pair_name(settings, pair)}", figures=figures))


def _judge_consistency(
    found: _Found, own: Sequence[dict[str, Any]], settings: AdversarialKernelSettings, run: Run
) -> None:
    names = [k for k, one in run.results.items() if one["part"] == "consistency"]
    kernels = [run.kernels[name, 0] for name in names]
    found.tables.append(consistency_table(own[0], kernels, settings.top))
    place = int(np.abs(np.array(own[0]["counts"]) - settings.top).argmin())
    picture = draw_consistency(
        own[0]["names"],
        mean_tables(kernels, place),
        own[0]["counts"][place],
        own[0]["chance"][place],
        run.path / "figures",
        len(kernels),
    )
    found.sections.append(Section("Consistency", figures=[picture]))


def _judge_transfer(
    found: _Found,
    own: Sequence[Networks],
    pair: tuple[int, int],
    settings: AdversarialKernelSettings,
    run: Run,
    judged: bool,
) -> None:
    kernel = [one for one in records(run, "kernel") if (one["a"], one["b"]) == pair]
    name = pair_name(settings, pair)
    found.claims += of_transfer(own, settings, judged)
    if any(one.gamma0 is None for one in own):
        found.tables.append(transfer_table(own, kernel, settings, name))
    if any(one.gamma0 is not None for one in own):
        found.tables.append(ladder_table(own, settings, name))
        richness = [one for one in own if one.gamma0 is not None]
        found.said.append(f"{name.capitalize()}: {_ladder_words(richness)}")
    stem = f"transfer_{pair[0]}-{pair[1]}"
    picture = draw_transfer(own, kernel, settings, run.path / "figures", stem)
    section = Section(f"Transfer, {name}", figures=[picture])
    found.sections.append(section)


def _ladder_words(own: Sequence[Networks]) -> str:
    """Which kernel attacks the richest network best."""
    rich = own[-1]
    names = {"kernel": "the kernel of infinite width", "K_0": "its own K_0", "K_T": "its own K_T"}
    drops: dict[str, Entry] = {name: mean_over_seeds(rich.drop(name)) for name in names}
    order = sorted(names, key=lambda name: -float(drops[name].value or 0.0))
    parts = [f"{names[name]} {drops[name].text}" for name in order]
    own_drop = mean_over_seeds(rich.drop("fgsm_accuracy")).text
    return (
        f"at gamma0 = {rich.gamma0:g} and equal loss the attack that costs most is that of "
        f"{parts[0]}, then {', '.join(parts[1:])}; the network's own costs {own_drop}."
    )
