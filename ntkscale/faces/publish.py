"""Verdicts on the terminal and in one report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ntkscale.experiments import Answer, Verdict, answer_table
from ntkscale.reporting import Section, Table, show, write_report
from ntkscale.runs import Run


def publish(
    judged: Sequence[tuple[Run, Verdict]], report: Path, *, overviews: Sequence[Table] = ()
) -> None:
    """Print every verdict and write them all into one self-contained page.

    First come the overviews of sweeps, then one table of answers, a row for each task of each run.

    Raises:
        OSError: the page cannot be written.
    """
    several = len(judged) > 1 or bool(overviews)
    answers = [
        (_name(run), answer)
        for run, verdict in judged
        # A run that asks none of the questions has its row all the same, among others.
        for answer in verdict.answers
        or ([Answer(verdict.title, unknown="this command does not ask")] * several)
    ]
    sections = [Section("Sweep", tables=overviews)] if overviews else []
    sections += [Section("Verdict", tables=[answer_table(answers)])] if answers else []
    for table in sections:
        show(*table.tables)
    for run, verdict in judged:
        if several:
            print(f"{_name(run)}\n")
        show(*verdict.tables)
        print(verdict.summary)
        first = Section("In numbers", verdict.summary if several else "", tables=verdict.tables)
        own = [first, *verdict.sections]
        sections += [
            replace(section, heading=f"{verdict.title}: {section.heading}") if several else section
            for section in own
        ]
    title = "Several runs" if several else judged[0][1].title
    if overviews:
        title = "; ".join(table.title for table in overviews)
    names = ", ".join(_name(run) for run, _ in judged)
    write_report(
        report,
        title,
        f"Judged: {names}." if several else judged[0][1].summary,
        sections,
        config={_name(run): run.config for run, _ in judged} if several else judged[0][0].config,
        environment=judged[0][0].environment,
    )
    print(f"\nreport: {report}")


def _name(run: Run) -> str:
    """Experiment and name of a run; names alone may be equal."""
    return "/".join(run.path.resolve().parts[-2:])
