"""The report's charts in a browser: controls, hover, the dark, a telephone, paper; no network."""

import json
import shutil
import urllib.parse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntkscale.reporting import (  # fmt: skip
    Curve,
    Picture,
    Section,
    draw_curves,
    house_style,
    new_figure,
    save_figure,
    write_report,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

HOSTILE = "<img src=x onerror=document.title='gotcha'> <a href='javascript:1'>j</a> %{x}"
SIZE = {"width": 1200, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        path = installed or driver.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: install one, or run `playwright install chromium`")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    figure, axes = new_figure(2)
    x = np.geomspace(1, 1000, 9)
    fast = Curve("fast", x, 1 / x, band=(0.5 / x, 2 / x))
    draw_curves(axes[0], [fast, Curve(HOSTILE, x, x**-0.5)], window=(10, 100), title=HOSTILE)
    with house_style():
        axes[1].errorbar([0, 1, 4], [1, 2, 3], yerr=0.5, fmt="o", label="bars")
        axes[1].set_xscale("symlog", linthresh=1.0)
        axes[1].axhline(2.5, color="k", linestyle="--", label="bound")
        axes[1].set(xlabel="time [epochs]", ylabel="S [1]")
    curves = Picture(save_figure(figure, folder, "curves")[0], "Curves.", "Two panels.")
    figure, axes = new_figure()
    axes[0].bar([1, 2], [1, 2])
    other = Picture(save_figure(figure, folder, "bars")[0], "Bars.")
    path = folder / "report.html"
    sections = [Section("Figures", figures=[curves, other])]
    write_report(path, "Report", "Words.", sections, config={}, environment={})
    return path


class Opened:
    """A page with its charts drawn, and whatever went wrong on it."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": SIZE} | options))
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._request)
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("figure.drawn")

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(request.url)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.close()

    def axis(self, panel: int, name: str) -> dict[str, Any]:
        get = "([i, name]) => { const { type, range } = document.querySelectorAll('.plot')[i]"
        return self.page.evaluate(
            f"{get}._fullLayout[name]; return {{ type, range }} }}", [panel, name]
        )

    def shown(self, panel: int) -> list[bool]:
        get = (
            "i => document.querySelectorAll('.plot')[i]._fullData.map(one => one.visible === true)"
        )
        return self.page.evaluate(get, panel)


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    """The page on a wide screen by day; each test leaves it as it found it."""
    with Opened(browser, report, color_scheme="light") as opened:
        yield opened


def test_scales_switch_and_come_back(opened: Opened) -> None:
    button = opened.page.locator(".panel").first.locator("button[data-axis=y]")
    before = opened.axis(0, "yaxis")
    assert before["type"] == "log" and button.get_attribute("aria-pressed") == "true"
    button.focus()
    opened.page.keyboard.press("Enter")
    assert opened.axis(0, "yaxis")["type"] == "linear"
    assert button.get_attribute("aria-pressed") == "false"
    assert opened.axis(0, "xaxis")["type"] == "log"
    button.click()
    assert opened.axis(0, "yaxis") == before
    symlog = opened.page.locator("button[data-axis=x]").nth(1)
    assert symlog.inner_text() == "symlog x"
    wide = opened.axis(1, "xaxis")["range"][1]
    symlog.click()
    assert opened.axis(1, "xaxis")["range"][1] > wide > 1
    symlog.click()
    assert opened.axis(1, "xaxis")["range"][1] == wide
    assert opened.wrong == []


def test_a_curve_hides_with_its_band(opened: Opened) -> None:
    fast, other = opened.page.locator(".legend").first.locator("button").all()
    assert opened.shown(0) == [True, True, True]
    fast.click()
    assert opened.shown(0) == [False, False, True]
    assert fast.get_attribute("aria-pressed") == "false"
    fast.click()
    other.dblclick()
    assert opened.shown(0) == [False, False, True]
    other.dblclick()
    assert opened.shown(0) == [True, True, True]
    bound = opened.page.locator(".legend").nth(1).locator("button", has_text="bound")
    lines = opened.page.locator(".plot").nth(1).locator(".shapelayer path[data-index]")
    assert lines.count() == 1
    bound.click()
    assert lines.count() == 0
    bound.click()
    assert lines.count() == 1
    assert opened.wrong == []


def test_reset_shows_the_whole_again(opened: Opened) -> None:
    panel = opened.page.locator(".panel").first
    reset = panel.locator("button", has_text="reset")
    first, second = panel.locator(".legend button").all()
    before = opened.axis(0, "xaxis")
    box = panel.locator(".plot").bounding_box()
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    opened.page.mouse.move(across - 60, down - 60)
    opened.page.mouse.down()
    opened.page.mouse.move(across + 60, down + 60, steps=4)
    opened.page.mouse.up()
    assert opened.axis(0, "xaxis") != before
    first.click()
    second.click()
    assert opened.shown(0) == [False, False, False]
    reset.click()
    assert opened.shown(0) == [True, True, True]
    assert [one.get_attribute("aria-pressed") for one in (first, second)] == ["true", "true"]
    assert opened.axis(0, "xaxis") == before
    second.dblclick()
    reset.click()
    assert opened.shown(0) == [True, True, True]
    first.click()  # what reset shows can be hidden again
    assert opened.shown(0) == [False, False, True]
    reset.click()
    assert opened.wrong == []


def test_ticks_of_a_short_axis_do_not_run_into_each_other(browser: Any, tmp_path: Path) -> None:
    figure, axes = new_figure()
    x = np.geomspace(1, 25, 9)
    draw_curves(axes[0], [Curve("one", x, x)])
    picture = Picture(save_figure(figure, tmp_path, "short")[0], "Short.")
    path = tmp_path / "report.html"
    write_report(path, "R", "W.", [Section("S", figures=[picture])], config={}, environment={})
    small = {"width": 390, "height": 800}
    with Opened(browser, path, viewport=small) as opened:
        for axis, side, size in (("x", "x", "width"), ("y", "y", "height")):
            boxes = [t.bounding_box() for t in opened.page.locator(f".{axis}tick text").all()]
            edges = sorted((box[side], box[side] + box[size]) for box in boxes)
            assert 2 <= len(edges) <= 8
            assert all(a[1] <= b[0] for a, b in pairwise(edges))


def test_a_wide_picture_scrolls_on_a_telephone(browser: Any, tmp_path: Path) -> None:
    figure, axes = new_figure(3)
    for ax in axes:
        ax.imshow(np.eye(3))
    picture = Picture(save_figure(figure, tmp_path, "wide")[0], "Wide.", "What it shows.")
    path = tmp_path / "report.html"
    write_report(path, "R", "W.", [Section("S", figures=[picture])], config={}, environment={})
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("figure > img").bounding_box()["width"] > 900
    assert page.locator("figcaption").bounding_box()["width"] < 390
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.locator("figure > img").bounding_box()["width"] <= 1120
    page.close()


def test_hover_says_the_curve_and_the_numbers_with_units(opened: Opened) -> None:
    axes = "document.querySelector('.plot')._fullLayout"
    at = [f"{axes}.xaxis._offset + {axes}.xaxis.l2p(1.5)"]  # 10^1.5, the middle of `fast`
    at += [f"{axes}.yaxis._offset + {axes}.yaxis.l2p(-1.5)"]
    opened.page.locator(".plot").first.hover(
        position=dict(zip("xy", map(opened.page.evaluate, at), strict=True)), force=True
    )
    words = opened.page.locator(".plot").first.locator(".hoverlayer .hovertext")
    words.wait_for()
    said = words.text_content()
    assert "fast" in said and "flow time t = 31.623 [sum of learning rates]" in said
    assert "mse = 0.031623 [target²]" in said and "from 0.015811 to 0.063246" in said
    assert opened.wrong == []


def test_hostile_names_stay_words(opened: Opened) -> None:
    assert opened.page.title() == "Report"
    assert opened.page.locator(".charts img").count() == 0
    assert opened.page.locator(".panel strong").first.text_content() == HOSTILE
    assert opened.page.locator("a[href^=javascript]").count() == 0
    assert opened.wrong == []


def test_data_are_downloaded(opened: Opened) -> None:
    found = {}
    for kind in ("CSV", "JSON"):
        with opened.page.expect_download() as download:
            opened.page.get_by_role("link", name=kind).click()
        assert download.value.suggested_filename == f"curves.{kind.lower()}"
        found[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    assert json.loads(found["JSON"])["panels"][0]["series"][0]["name"] == "fast"
    lines = found["CSV"].splitlines()
    assert lines[0].startswith('"panel","x axis","y axis","curve","x","y"')
    assert len([line for line in lines if '"fast",' in line]) == 9
    assert urllib.parse.quote("target²") not in found["CSV"] and "target²" in found["CSV"]
    assert opened.wrong == []


def test_a_telephone_scrolls_downwards_only(browser: Any, report: Path) -> None:
    small = {"width": 390, "height": 800}
    with Opened(browser, report, viewport=small, has_touch=True, is_mobile=True) as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        first, second = (box.bounding_box() for box in page.locator(".panel").all())
        assert second["y"] >= first["y"] + first["height"]  # one under the other
        plot, legend = (page.locator(one).first.bounding_box() for one in (".plot", ".legend"))
        assert legend["y"] >= plot["y"] + plot["height"]
        assert opened.wrong == []


def test_night_falls_while_the_page_is_open(opened: Opened) -> None:
    text = "document.querySelector('.plot')._fullLayout.font.color"
    back = "getComputedStyle(document.body).backgroundColor"
    day = opened.page.evaluate(text)
    assert opened.page.evaluate(back) == "rgb(255, 255, 255)"
    opened.page.emulate_media(color_scheme="dark")
    assert opened.page.evaluate(back) == "rgb(20, 23, 26)"
    for _ in range(50):
        if opened.page.evaluate(text) != day:
            break
        opened.page.wait_for_timeout(50)
    assert opened.page.evaluate(text) == "#e4e8ec"
    opened.page.emulate_media(color_scheme="light")
    assert opened.wrong == []


def test_paper_has_the_picture(opened: Opened) -> None:
    picture = opened.page.locator("figure.chart > img")
    assert not picture.is_visible()
    opened.page.emulate_media(media="print")
    assert picture.is_visible() and not opened.page.locator(".charts").is_visible()
    opened.page.emulate_media(media="screen")
    assert opened.wrong == []


def test_without_scripts_there_are_pictures(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert [one.is_visible() for one in page.locator("figure > img").all()] == [True, True]
    context.close()
