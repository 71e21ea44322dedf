"""Figures of `train.py local-analysis`: laws in lambda, stages, neurons, certificate, cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from matplotlib.axes import Axes

from ntkscale.experiments.local_analysis.descent import phases, teacher_of
from ntkscale.experiments.local_analysis.measures import Descent, costs, slope
from ntkscale.experiments.local_analysis.settings import ARMS, LocalAnalysisSettings
from ntkscale.reporting import COLOURS, Picture, house_style, ladder, new_figure, save_figure
from ntkscale.runs import Run
from ntkscale.theory.local_analysis import Population, Teacher, dual, great_circle, tail

ARM_COLOURS: dict[str, str] = dict(zip(ARMS, COLOURS, strict=False))
LAMBDA = "regularisation lambda [1]"


def draw_laws(own: Sequence[Descent], folder: Path, stem: str, name: str) -> Picture:
    """Angles, MSE, group error and mass at the end of each phase, against lambda."""
    figure, axes = new_figure(2, 2)
    lam = own[0].lam
    with house_style():
        panels = (("weighted_angle", "mass-weighted"), ("largest_angle", "largest"))
        for (measure, label), colour in zip(panels, COLOURS, strict=False):
            _seeds(axes[0], own, measure, colour, label)
        middle = np.mean([one.ends("schedule", "weighted_angle")[-1] for one in own])
        _guide(axes[0], lam, float(middle), 1)
        axes[0].set(ylabel="angle to the nearest direction [degrees]")
        _seeds(axes[1], own, "mse", COLOURS[0], "trained")
        for one in own:
            formula = one.certificates("schedule", "formula_mse")
            label = "formula, support at the teacher" if one is own[0] else None
            axes[1].plot(lam, formula, "--", color="k", linewidth=0.9, label=label)
        axes[1].set(ylabel="MSE [target²]", title="slope 2")
        _seeds(axes[2], own, "group_error", COLOURS[0], "trained")
        error = np.mean([one.ends("schedule", "group_error")[-1] for one in own])
        _guide(axes[2], lam, float(error), 1)
        axes[2].set(ylabel="group error [weight of a teacher neuron]")
        _seeds(axes[3], own, "mass", COLOURS[0], "trained")
        for one in own:
            formula = one.certificates("schedule", "formula_mass")
            label = "formula" if one is own[0] else None
            axes[3].plot(lam, formula, "--", color="k", linewidth=0.9, label=label)
        axes[3].set(ylabel="mass sum |a| |w| [weight]")
        for ax in axes:
            ax.set(xscale="log", xlabel=LAMBDA)
            ax.set_xticks(lam, [f"{value:.3g}" for value in lam])
            ax.set_xticks([], minor=True)
            ax.legend()
        for ax in axes[:3]:
            ax.set_yscale("log")
    return Picture(
        save_figure(figure, folder, stem)[0],
        f"Angles, MSE, group error and mass against lambda{name}.",
        f"A line for each of {len(own)} seeds, all three stages, at the end of every phase.",
    )


def _seeds(ax: Axes, own: Sequence[Descent], measure: str, colour: str, label: str) -> None:
    for one in own:
        values = one.ends("schedule", measure)
        ax.plot(
            one.lam, values, "o-", markersize=3, linewidth=0.8, color=colour,
            label=label if one is own[0] else None,
        )  # fmt: skip


def _guide(ax: Axes, lam: np.ndarray, end: float, power: int) -> None:
    ax.plot(lam, end * (lam / lam[-1]) ** power, ":", color="0.4", label=f"slope {power}")


def draw_stages(
    own: Sequence[Descent], settings: LocalAnalysisSettings, folder: Path, stem: str, name: str
) -> Picture:
    """Far mass, weighted angle, loss and zeta over the steps of stage 3, a colour for each arm."""
    figure, axes = new_figure(2, 2)
    with house_style():
        for one in own:
            for arm in one.arms:
                rows = one.looks(arm)
                label = arm.replace("-", " ") if one is own[0] else None
                style = {"color": ARM_COLOURS[arm], "linewidth": 0.9, "label": label}
                steps = rows["step"].to_numpy()
                far = np.maximum(rows["far_10"].to_numpy().astype(float), 1e-30)
                axes[0].plot(steps, far, **style)
                axes[1].plot(steps, rows["weighted_angle"], **style)
                axes[2].plot(steps, np.maximum(rows["mse"].to_numpy(), 1e-14), **style)
                if arm == "schedule":
                    _zeta(axes[3], rows, one is own[0])
        edge = 0
        for phase in phases(settings):
            for ax in axes:
                ax.axvline(edge, color="0.8", linewidth=0.7, zorder=0)
            words = f"λ={phase.lam:g}" if phase.lam else "λ=0"
            axes[0].annotate(words, (edge, 1.02), xycoords=("data", "axes fraction"), fontsize=6)
            edge += phase.steps
        axes[0].set(yscale="log", ylim=(1e-31, 3), ylabel="mass farther than 10 degrees [1]")
        axes[0].axhline(1e-6, color="0.4", linestyle=":", linewidth=0.8)
        axes[1].set(ylabel="weighted angle [degrees]")
        axes[2].set(yscale="log", ylabel="MSE [target²]")
        axes[3].set(yscale="log", ylabel="zeta = L_λ - its end of phase [target²]")
        for ax in axes:
            ax.set(xlabel="steps of stage 3")
        axes[1].legend(fontsize=6.5)
    return Picture(
        save_figure(figure, folder, stem)[0],
        f"Far mass, angle and loss over the steps of stage 3{name}.",
        f"A line for each of {len(own)} seeds; vertical lines: lambda is halved. Shares below "
        "1e-30 are drawn there. Names of arms: what is left out of the three stages.",
    )


def _zeta(ax: Axes, rows: pl.DataFrame, first: bool) -> None:
    colours = ladder(len(rows["phase"].unique()))
    for (_, own), colour in zip(rows.group_by("phase", maintain_order=True), colours, strict=True):
        gap = (own["objective"] - own["objective"][-1]).to_numpy()[:-1]
        label = f"λ = {own['lam'][0]:.3g}" if first else None
        kept = gap > 1e-16
        ax.plot(
            own["step"].to_numpy()[:-1][kept], gap[kept], color=colour, linewidth=0.9, label=label
        )
    if first:
        ax.legend(fontsize=6)


def draw_neurons(run: Run, one: Descent, settings: LocalAnalysisSettings, stem: str) -> Picture:
    """Neurons of one seed in the plane of two teacher directions, at five moments."""
    last = len(settings.lam) - 1
    all_three = one.arms.index("schedule")
    moments = [
        ("start", all_three, "start"),
        ("stage=1", all_three, "stage 1: one step"),
        ("stage=2", all_three, "stage 2: read-out fitted"),
        (f"phase={last}", all_three, f"stage 3: λ = {one.lam[-1]:.3g}"),
    ]
    if "no-regularisation" in one.arms:
        moments += [(f"phase={last}", one.arms.index("no-regularisation"), "instead: λ = 0")]
    teacher = teacher_of(settings, one.seed)
    basis = teacher.basis.cpu()
    shown = (teacher.directions.cpu() @ basis).numpy()
    third = basis.shape[1] > 2
    figure, axes = new_figure(len(moments), 2 if third else 1)
    with house_style():
        for place, (name, arm, title) in enumerate(moments):
            saved = run.weights(f"{one.cell},{name}")
            a, W = saved["a"][arm], saved["W"][arm]
            units = ((W / W.norm(dim=1, keepdim=True)) @ basis).numpy()
            masses = (a.abs() * W.norm(dim=1)).numpy()
            for row, second in enumerate((1, 2) if third else (min(1, basis.shape[1] - 1),)):
                ax = axes[place + row * len(moments)]
                _plane(ax, units, masses, a.numpy(), shown, second)
                ax.set(title=title if not row else "")
    return Picture(
        save_figure(figure, run.path / "figures", stem)[0],
        "Directions of the neurons in the teacher's subspace at five moments.",
        f"Seed {one.seed}, {one.activation}. Unit vectors w / |w|, projected; area: mass; blue "
        "a > 0, orange a < 0. Lines: teacher directions, both signs. Off the subspace a neuron "
        "lies inside the circle.",
    )


def _plane(
    ax: Axes, units: np.ndarray, masses: np.ndarray, a: np.ndarray, shown: np.ndarray, second: int
) -> None:
    if units.shape[1] == 1:
        units, shown = np.pad(units, ((0, 0), (0, 1))), np.pad(shown, ((0, 0), (0, 1)))
        second = 1
    for direction in shown:
        ends = np.stack([-direction, direction])
        ax.plot(ends[:, 0], ends[:, second], color="0.6", linewidth=0.9, zorder=1)
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color="0.85", linewidth=0.7, zorder=0)
    area = 2 + 150 * masses / masses.sum()
    colours = np.where(a > 0, COLOURS[0], COLOURS[1])
    ax.scatter(units[:, 0], units[:, second], s=area, c=colours, alpha=0.6, linewidths=0, zorder=2)
    ax.set(
        xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xlabel="component 1 [1]",
        ylabel=f"component {second + 1} [1]",
    )  # fmt: skip
    ax.set_aspect("equal")


def draw_certificate(
    run: Run, one: Descent, settings: LocalAnalysisSettings, stem: str
) -> list[Picture]:
    """eta on the great circle through two teacher directions, for every lambda."""
    teacher = teacher_of(settings, one.seed)
    teacher = Teacher(teacher.directions.cpu(), teacher.weights.cpu())
    if len(teacher.weights) < 2:
        return []
    exact = Population(teacher, tail(one.activation))
    turn, directions = great_circle(exact, 0, 1)
    angle = float(torch.rad2deg(torch.acos(teacher.cosines[0, 1])))
    figure, (ax, near) = new_figure(2)
    with house_style():
        for index, (lam, colour) in enumerate(zip(one.lam, ladder(len(one.lam)), strict=True)):
            saved = run.weights(f"{one.cell},phase={index}")
            place = one.arms.index("schedule")
            eta = dual(exact, saved["a"][place], saved["W"][place], lam, directions)
            ax.plot(turn, eta, color=colour, linewidth=1, label=f"λ = {lam:.3g}")
            near.plot(turn, 1 - eta.abs(), color=colour, linewidth=1)
        for at in (0, angle, 180, 180 + angle):
            for each in (ax, near):
                each.axvline(at, color="0.6", linestyle=":", linewidth=0.8)
        for sign in (1,) if bool((teacher.weights > 0).all()) else (1, -1):
            ax.axhline(sign, color="k", linewidth=0.6)
        ax.set(xlabel="angle on the great circle [degrees]", ylabel="dual certificate eta(w) [1]")
        near.set(
            xlabel="angle on the great circle [degrees]", ylabel="1 - |eta(w)| [1]", yscale="log",
            ylim=(1e-6, 2),
        )  # fmt: skip
        ax.legend(fontsize=6.5)
    return [
        Picture(
            save_figure(figure, run.path / "figures", stem)[0],
            "Dual certificate on the great circle through two teacher directions.",
            f"Seed {one.seed}, {one.activation}; dotted: the two directions and their opposites. "
            "The bound is |eta| <= 1, reached at neurons alone.",
        )
    ]


def draw_cost(run: Run) -> Picture:
    """Seconds of a step against m^2 d."""
    found = costs(run)
    figure, (ax,) = new_figure()
    work = [one["multiply_adds"] for one in found]
    seconds = [one["seconds"] for one in found]
    last = slope(work[-2:], seconds[-2:])
    with house_style():
        ax.plot(work, seconds, "o-", color=COLOURS[0])
        for one in found:
            text = f"d = {one['dimension']}, m = {one['width']}"
            ax.annotate(text, (one["multiply_adds"], one["seconds"]), fontsize=6.5)
        ax.set(
            xscale="log", yscale="log", xlabel="multiply-adds of a step, ~ 2 m² d",
            ylabel="time of a step [s]", title=f"slope {last:.2f} between the last two",
        )  # fmt: skip
    return Picture(
        save_figure(figure, run.path / "figures", "cost")[0],
        "Time of a step of descent against its multiply-adds.",
        "The shortest of several; the exact loss, width d² / 10.",
    )
