"""The verdict on an images run: where the task stands, what was measured, do widths agree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ntkscale.experiments.images.answers import image_answers
from ntkscale.experiments.images.experiment import ImagesSettings, settings_of
from ntkscale.experiments.images.measures import (
    Start,
    Trained,
    WidthGap,
    starts,
    trained,
    width_gaps,
)
from ntkscale.experiments.images.prediction import (
    compared,
    draw_prediction,
    exponent_table,
    linearised_table,
    predict_images,
    statement,
)
from ntkscale.experiments.verdict import Verdict, kernel_strip, tracker_cost
from ntkscale.reporting import (
    Curve,
    Entry,
    Picture,
    Section,
    Spectrum,
    Table,
    draw_curves,
    draw_source,
    draw_spectrum,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run
from ntkscale.scaling import predict, regime


def judge(run: Run) -> Verdict:
    """Tables, figures and a summary from a run's files; figures go to its `figures/`.

    Raises:
        RunFolderError: a file of the run is damaged.
    """
    settings = settings_of(run)
    begun, cells = starts(run), trained(run, settings)
    gaps = width_gaps(cells)
    predicted = predict_images(cells, begun, settings)
    has_test = any(np.isfinite(cell.test_loss).all() for cell in cells)
    what = compared(settings, has_test)
    figures = run.path / "figures"
    against = "step" if settings.method == "adam" else "time"
    quantity = "mse" if settings.loss == "mse" else "loss"
    sections = [
        Section(
            "Learning curves",
            "One panel for every gamma0. In the mean-field parameterization networks of different "
            "width learn alike.",
            figures=[_draw_losses(cells, quantity, against, figures)],
        ),
        Section(
            "What the initial kernel says",
            "Eigenvalues (slope alpha), and target power above each eigenvalue (slope beta).",
            figures=[_draw_spectra(begun, figures)],
        ),
        Section(
            "How the kernel moves",
            "Distance from the initial kernel and alignment with the targets.",
            figures=[_draw_kernel(cells, against, figures), *_draw_pictures(run, cells)],
        ),
    ]
    tables = [_verdict_table(cells, begun, quantity)]
    if begun:
        tables.append(_start_table(begun, settings))
    if predicted:
        tables.insert(0, exponent_table(predicted, what))
        sections.insert(
            0,
            Section(
                "Whole curves predicted from the initial kernel",
                "The solvable model, started from the eigenvalues of K_0 and the targets on its "
                "eigenvectors; nothing is fitted.",
                figures=[draw_prediction(predicted, what, figures)],
            ),
        )
    exact = linearised_table(predicted)
    if exact is not None:
        tables.insert(0, exact)
    if gaps:
        tables.append(_gap_table(gaps))
    return Verdict(
        title=f"Images: {run.path.name}",
        summary=" ".join(
            filter(None, [statement(predicted), _summary(run, settings, begun, cells, gaps)])
        ),
        tables=tables,
        sections=sections,
        answers=image_answers(begun, predicted, settings),
    )


def _summary(
    run: Run,
    settings: ImagesSettings,
    begun: Sequence[Start],
    cells: Sequence[Trained],
    gaps: Sequence[WidthGap],
) -> str:
    parts: list[str] = []
    found = [start.measured for start in begun if start.measured is not None]
    if found:
        alpha = float(np.mean([entry.alpha for entry in found]))
        beta = float(np.mean([entry.beta for entry in found]))
        said = predict(alpha, beta)
        parts.append(
            f"The initial kernels place {settings.data} at alpha = {alpha:.2f}, beta = {beta:.2f}: "
            f"a {said.regime} task, lazy t^-{said.time_lazy:.2f}, rich t^-{said.time_rich:.2f}."
        )
    ends = [float(cell.x[-1]) for cell in cells if len(cell.x)]
    if ends:
        unit = "steps" if settings.method == "adam" else "units of flow time"
        parts.append(f"Training goes to {max(ends):g} {unit}.")
    if gaps:
        worst = max(gaps, key=lambda entry: entry.gap)
        parts.append(
            f"At equal gamma0 the loss curves of different widths lie within {worst.gap:.1%} "
            f"(worst at gamma0 = {worst.gamma0:g})."
        )
    if not run.finished:
        parts.append("The run is not finished: what is missing is not in the tables.")
    parts.append(tracker_cost(run))
    return " ".join(parts)


def _verdict_table(cells: Sequence[Trained], begun: Sequence[Start], quantity: str) -> Table:
    place = {(start.width, start.seed): start.measured for start in begun}
    rows = []
    for cell in cells:
        measured = place.get((cell.width, cell.seed))
        said = predict(measured.alpha, measured.beta) if measured else None
        fit = cell.fit
        believed = fit is not None and fit.is_power_law
        rows.append(
            {
                "width": cell.width,
                "gamma0": f"{cell.gamma0:.3g}",
                "seed": cell.seed,
                "lazy theory": said.time_lazy if said else None,
                "rich theory": said.time_rich if said else None,
                "measured": Entry(fit.exponent, fit.interval)
                if fit and believed
                else "no power law",
                "window": f"{fit.window[0]:.3g} .. {fit.window[1]:.3g}" if fit else "-",
                "R^2": Entry(fit.r_squared) if fit else None,
                f"final {quantity}": Entry(float(cell.loss[-1]), digits=4)
                if len(cell.loss)
                else None,
                "distance": Entry(float(cell.distance[-1])) if len(cell.distance) else None,
                "change": Entry(float(cell.change[-1]), digits=2) if len(cell.change) else None,
                "accuracy": cell.accuracy,
                "test": cell.test_accuracy,
                "ended": cell.status,
                "note": fit.reason if fit else "too few points",
            }
        )
    return Table(
        "Exponents in time",
        list(rows[0]) if rows else ["width"],
        rows,
        "theory: from alpha and beta of the network's own initial kernel. distance: S(K_0, K_t) "
        "at the end, which looks at shape alone. change: |K_t - K_0| / |K_0|. Intervals are 95 %.",
    )


def _start_table(begun: Sequence[Start], settings: ImagesSettings) -> Table:
    rows = []
    for start in begun:
        found = start.measured
        rows.append(
            {
                "width": start.width,
                "seed": start.seed,
                "samples": len(start.eigenvalues),
                "alpha": Entry(found.alpha, found.alpha_interval) if found else None,
                "beta": Entry(found.beta, found.beta_interval) if found else None,
                "index window": f"{found.window[0]} .. {found.window[1]}" if found else "-",
                "regime": regime(found.alpha, found.beta) if found else "too few eigenvalues",
            }
        )
    return Table(
        "The initial kernel",
        list(rows[0]) if rows else ["width"],
        rows,
        "Read off K_0 on as many training samples. The intervals allow for the choice of window, "
        "which moves both by more than noise does.",
    )


def _gap_table(gaps: Sequence[WidthGap]) -> Table:
    rows = [
        {
            "gamma0": f"{gap.gamma0:.3g}",
            "largest gap": f"{gap.gap:.1%}",
            "at": Entry(gap.at, digits=2),
            "two widest": f"{gap.widest_pair:.1%}",
        }
        for gap in gaps
    ]
    return Table(
        "Agreement across width",
        list(rows[0]),
        rows,
        "Largest |L_N / L_M - 1| between two widths at a common time, seeds averaged.",
    )


def _draw_losses(cells: Sequence[Trained], quantity: str, against: str, folder: Path) -> Picture:
    gammas = list(dict.fromkeys(cell.gamma0 for cell in cells))
    widths = sorted({cell.width for cell in cells})
    colours = dict(zip(widths, ladder(len(widths)), strict=True))
    columns = min(max(len(gammas), 1), 3)
    figure, axes = new_figure(columns, -(-len(gammas) // columns) or 1)
    for ax in axes[len(gammas) :]:
        ax.set_visible(False)
    for ax, gamma0 in zip(axes, gammas, strict=False):
        labelled: set[int] = set()
        curves = []
        for cell in cells:
            if cell.gamma0 == gamma0:
                label = "" if cell.width in labelled else f"width {cell.width}"
                labelled.add(cell.width)
                curves.append(Curve(label, cell.x, cell.loss, colour=colours[cell.width]))
        draw_curves(ax, curves, quantity=quantity, against=against, title=f"gamma0 = {gamma0:g}")
    return Picture(
        save_figure(figure, folder, "loss_curves")[0],
        "Training loss in time, one panel for every gamma0, one colour for every width.",
    )


def _draw_spectra(begun: Sequence[Start], folder: Path) -> Picture:
    figure, axes = new_figure(2)
    widths = sorted({start.width for start in begun})
    own = [next(start for start in begun if start.width == width) for width in widths]
    spectra = [
        Spectrum(
            f"width {start.width}",
            start.eigenvalues,
            start.power,
            measured=start.measured,
            colour=colour,
        )
        for start, colour in zip(own, ladder(len(own)), strict=True)
    ]
    draw_spectrum(axes[0], spectra, title="capacity")
    draw_source(axes[1], spectra, title="source")
    return Picture(
        save_figure(figure, folder, "initial_kernel")[0],
        "Spectrum of the initial kernels and target power above each eigenvalue.",
        "First seed of every width.",
    )


def _draw_kernel(cells: Sequence[Trained], against: str, folder: Path) -> Picture:
    figure, axes = new_figure(2)
    widest = max((cell.width for cell in cells), default=0)
    own = [cell for cell in cells if cell.width == widest]
    own = [cell for cell in own if cell.seed == own[0].seed]
    colours = ladder(len(own))
    for ax, quantity in ((axes[0], "kernel_distance"), (axes[1], "kernel_alignment")):
        curves = [
            Curve(
                f"gamma0 = {cell.gamma0:g}",
                cell.kernel_x,
                cell.distance if quantity == "kernel_distance" else cell.alignment,
                colour=colour,
            )
            for cell, colour in zip(own, colours, strict=True)
        ]
        draw_curves(ax, curves, quantity=quantity, against=against, title=f"width {widest}")
    return Picture(
        save_figure(figure, folder, "kernel_evolution")[0],
        "Distance of the kernel from its start, and its alignment with the targets, in time.",
    )


def _draw_pictures(run: Run, cells: Sequence[Trained]) -> list[Picture]:
    """The kernel of the widest, richest cell."""
    if not cells:
        return []
    best = max(cells, key=lambda cell: (cell.width, cell.gamma0))
    key = {"width": best.width, "gamma0": best.gamma0, "seed": best.seed}
    return kernel_strip(run, key, "rows and columns are probe samples.")
