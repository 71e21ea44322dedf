"""The W&B dashboard as code: built here, written as JSON, or saved to an account."""

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from ntkscale.reporting.wandb_log import sign_in
from ntkscale.reporting.workspace_charts import CHARTS
from ntkscale.reporting.workspace_panels import DASHED, sections
from ntkscale.schema import Axis

NAME = "ntkscale"

COLUMNS = (
    "run:jobType",
    "run:group",
    "summary:verdict",
    "summary:regime",
    "summary:alpha",
    "summary:beta",
    "config:gamma0.value",
    "config:width.value",
    "config:seed.value",
    "summary:mse",
)
"""Pinned columns of the table of runs, after the run's name."""

_OPEN = {"Verdict", "Losses", "Exponents", "Kernel evolution"}
_MOST_RUNS = 50  # drawn in a panel, and asked for their theory


def build_workspace(
    entity: str, project: str, *, axis: Axis = "time", dashed_runs: Sequence[str] = ()
) -> Any:
    """The dashboard, a `wandb_workspaces.workspaces.Workspace`; needs neither network nor account.

    Args:
        entity: user or team.
        project: of its runs.
        axis: what curves are drawn against; step for runs without a flow time.
        dashed_runs: ids of the runs in which theory is to be drawn dashed: W&B keeps line styles by
            run, not by metric.

    Raises:
        ValueError: wandb-workspaces is not installed.
    """
    with _quietly():
        ws, wr = _library()
        return ws.Workspace(
            entity=entity,
            project=project,
            name=NAME,
            sections=[
                ws.Section(
                    name=name,
                    panels=panels,
                    is_open=name in _OPEN,
                    layout_settings=ws.SectionLayoutSettings(columns=3, rows=2),
                )
                for name, panels in sections(wr, entity, axis, dashed_runs)
            ],
            settings=ws.WorkspaceSettings(x_axis=axis, max_runs=_MOST_RUNS),
            runset_settings=ws.RunsetSettings(pinned_columns=list(COLUMNS)),
        )


def definition(workspace: Any) -> dict[str, Any]:
    """What W&B is sent, as JSON-able values: the view, and the charts which it uses."""
    with _quietly():
        view = workspace._to_model()
        spec = view.spec.model_dump_json(by_alias=True, exclude_none=True)
    return {
        "entity": workspace.entity,
        "project": workspace.project,
        "name": workspace.name,
        "spec": json.loads(spec),
        "charts": {f"{workspace.entity}/{chart.name}": chart.spec for chart in CHARTS},
    }


def save_workspace(entity: str, project: str, *, axis: Axis = "time") -> tuple[str, list[str]]:
    """Create the dashboard in an account, as a new view of the project, with its charts.

    Args:
        entity: user or team; empty: the account's own.
        project: of its runs.
        axis: as in `build_workspace`.

    Returns:
        Its address, and a sentence for each chart that W&B did not take; one that is there already
        is such a chart.

    Raises:
        ValueError: wandb-workspaces is not installed.
        OSError: there is no network or account, or W&B refuses.
    """
    with _quietly():
        _library()
        import wandb

        try:
            sign_in(wandb.Settings(silent=True))
        except OSError as error:
            raise OSError(
                f"W&B cannot be reached ({error}); --json FILE writes the dashboard without it."
            ) from error
        try:
            api = wandb.Api()
            owner = entity or str(api.default_entity)
            said = [line for chart in CHARTS if (line := _create(api, owner, chart))]
            runs = _theory_runs(api, owner, project)
            workspace = build_workspace(owner, project, axis=axis, dashed_runs=runs)
            return workspace.save().url, said
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OSError(
                f"W&B did not take the dashboard of {entity or 'this account'}/{project}: {first}"
            ) from error


def _create(api: Any, entity: str, chart: Any) -> str:
    """Nothing, or why W&B did not take a chart."""
    try:
        api.create_custom_chart(
            entity=entity,
            name=chart.name,
            display_name=f"ntkscale: {chart.title}",
            spec_type="vega2",
            access="private",
            spec=chart.spec,
        )
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"chart {chart.name}: {first}"
    return ""


def _theory_runs(api: Any, entity: str, project: str) -> list[str]:
    """Ids of the latest runs that hold a curve of theory; none where there is no project yet."""
    holds = {"$or": [{f"summary_metrics.{name}": {"$exists": True}} for name in DASHED]}
    try:
        runs = api.runs(f"{entity}/{project}", filters=holds, per_page=_MOST_RUNS)
        return [run.id for run, _ in zip(runs, range(_MOST_RUNS), strict=False)]
    except ValueError:
        return []


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ValueError(
            "the dashboard needs wandb-workspaces: pip install 'ntkscale[dashboards]'."
        ) from error
    return ws, wr


@contextmanager
def _quietly() -> Iterator[None]:
    """The library warns of its own dependencies, and prints what it does."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
