"""The page of a run in a real browser: no request, sorting, slider, keyboard, narrow screens, no script."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.reports.comparison_page import write_comparison
from pipeline.reports.run_page import write_run_page
from tests.browser.test_dataset_html import read_contrasts
from tests.run_folders import write_pictures, write_probabilities, write_run

HOSTILE = "<img src=x onerror=\"document.title='owned'\">" + "long" * 40

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run, and that of a comparison, with a hostile name."""
    root = tmp_path_factory.mktemp("runs")
    scores = {HOSTILE: 0.1, "c2": 0.9, "c10": 0.5, "c1": float("nan"), "c3": 0.25}
    row = {"name": HOSTILE, "over": None, "score": 0.8, "gain": {"mean": 0.1, "low": 0.01, "high": 0.2}}
    tuned = {"metric": HOSTILE, "split": "val", "cases": 5, "subjects": 5, "rows": [row, row]}
    folder = write_run(root / "run", scores, record={"config": {"ablation": tuned}})
    write_probabilities(folder, dict.fromkeys(scores, 0.3))
    write_pictures(folder, {HOSTILE: 5, "c2": 1, "c10": 5})
    other = write_run(root / "other", {case: score + 0.05 for case, score in scores.items()})
    return {
        "run": write_run_page([folder], root / "run.html"),
        "comparison": write_comparison([f"<b>{'long' * 40}={folder}", str(other)], root / "comparison.html"),
    }


@pytest.mark.parametrize("name", ["run", "comparison"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "dark")])
def test_the_page_opens_without_a_request(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(pages[name].as_uri())
    assert page.title() != "owned"
    assert [url for url in requests if not url.startswith("data:")] == [pages[name].as_uri()]
    assert messages == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def read_column(page: Any, column: int) -> list[str]:
    rows = page.eval_on_selector_all(
        "table.sortable tbody tr", "all => all.map(r => [...r.cells].map(c => c.innerText))"
    )
    return [row[column] for row in rows]


def test_the_table_sorts_by_mouse_and_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["run"].as_uri())
    assert read_column(page, 2) == ["0.100", "0.250", "0.500", "0.900", "no value"]
    page.click("table.sortable th.number button")
    page.click("table.sortable th.number button")
    assert read_column(page, 2) == ["0.900", "0.500", "0.250", "0.100", "no value"]
    assert page.get_attribute("table.sortable th.number", "aria-sort") == "descending"
    page.focus("table.sortable th button")
    page.keyboard.press("Enter")
    assert read_column(page, 0)[1:] == ["c1", "c2", "c3", "c10"]
    page.close()


def test_the_slider_moves_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["run"].as_uri())
    view = page.locator(".view").last
    assert view.locator(".frame:visible").count() == 1
    assert view.locator("output").inner_text() == "slice 4 of 15"  # the first with errors
    view.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert view.locator("output").inner_text() == "slice 5 of 15"
    assert view.locator(".frame:visible").get_attribute("data-label") == "slice 5 of 15"
    size = view.locator(".frame:visible image").first.bounding_box()
    assert size is not None
    assert size["width"] > 50
    page.close()


def test_without_a_script_all_slices_can_be_seen(browser: Any, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 400, "height": 900})
    page = context.new_page()
    page.goto(pages["run"].as_uri())
    assert page.locator(".view").last.locator(".frame:visible").count() == 5
    assert page.locator("input:visible").count() == 0
    assert page.locator("table.sortable tbody tr").count() == 5
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_text_can_be_read(browser: Any, pages: dict[str, Path], scheme: str, media: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.emulate_media(media=media)
    for path in pages.values():
        page.goto(path.as_uri())
        contrasts = read_contrasts(page)
        assert len(contrasts) > 30
        assert min(contrasts) >= 4.5
    context.close()
