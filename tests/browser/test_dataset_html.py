"""The HTML report in a real browser: no script runs, no request is sent, pictures load, the layout fits."""

from pathlib import Path
from typing import Any

import markdown
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.bundle.dataset import read_dataset
from pipeline.bundle.new import create_bundle
from pipeline.bundle.recipe import read_template
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.reports.dataset_html import write_html
from tests.security.hostile import PRINTABLE

HOSTILE = "<img src=x onerror=\"document.title='owned'\">" + "long" * 40 + ".png"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a leak, hostile names and a file that is missing."""
    root = tmp_path_factory.mktemp("data")
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(300, 400)), 12)
    image = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    Image.fromarray(image).save(root / HOSTILE)
    Image.fromarray(image).save(root / "copy.jpg")
    cases = (
        Case("<script>document.title='owned'</script>", "", (HOSTILE,)),
        Case("b", "", ("copy.jpg",), split="test"),
        Case("c", "", ("gone.png",)),
    )
    manifest = Manifest("x", "segmentation", "", "", {0: "background"}, {0: 0}, (), cases)
    found = check_manifest(manifest, root, level="deep")
    assert {"leak-near", "missing-file"} <= {issue.code for issue in found.issues}
    return write_html(found, root / "report.html", title="A <title>", manifest=manifest, root=root)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_is_whole_and_harmless(browser: Any, report: Path, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(report.as_uri())
    assert page.title() == "A <title>"
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert messages == []
    sizes = page.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[256, 192], [256, 192]]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def read_contrasts(page: Any) -> list[float]:
    """Contrast ratio (WCAG 2.1) of every element that holds text, against the nearest background below it."""
    colours = page.evaluate("""() => [...document.querySelectorAll('body *')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => { let b = e; const clear = 'rgba(0, 0, 0, 0)';
            while (b.parentElement && getComputedStyle(b).backgroundColor === clear) b = b.parentElement;
            return [getComputedStyle(e).color, getComputedStyle(b).backgroundColor]; })""")

    def luminance(colour: str) -> float:
        channels = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    pairs = [sorted((luminance(text), luminance(back))) for text, back in colours]
    return [(light + 0.05) / (dark + 0.05) for dark, light in pairs]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_text_can_be_read(browser: Any, report: Path, scheme: str, media: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.emulate_media(media=media)
    page.goto(report.as_uri())
    contrasts = read_contrasts(page)
    assert len(contrasts) > 30
    assert min(contrasts) >= 4.5
    context.close()


def test_the_page_can_be_walked_by_keyboard(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    links = page.eval_on_selector_all("ul.index a", "all => all.map(a => a.getAttribute('href'))")
    for link in links:
        assert page.locator(link).count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
    page.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A report, and the card of a new bundle, of a dataset with every hostile name in every place."""
    root = tmp_path_factory.mktemp("names")
    names = [name for name in PRINTABLE if "/" not in name]
    cases = tuple(
        Case(f"{index} {name}", name, (f"images/{name}.png",), (f"masks/{name}.png",), fold=index % 2)
        for index, name in enumerate(names)
    )
    labels = dict(enumerate(("background", *PRINTABLE)))
    everything = " ".join(PRINTABLE)
    manifest = Manifest(
        everything, everything, everything, everything, labels, {}, PRINTABLE, cases, citations=PRINTABLE
    )
    found = check_manifest(manifest, root, level="quick")
    written = write_html(found, root / "report.html", title=everything, manifest=manifest, root=root)
    write_manifest(manifest, root / "m.json")
    dataset = read_dataset(root / "m.json")
    created = create_bundle("fresh", read_template("pictures"), dataset, root / "bundles", rehearse=False)
    card = markdown.markdown((created.path / "docs/README.md").read_text(), extensions=["tables", "fenced_code"])
    (root / "card.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><body>{card}")
    return [written, root / "card.html"]


def test_no_name_is_more_than_text(browser: Any, pages: list[Path]) -> None:
    for path in pages:
        page = browser.new_page()
        seen: list[str] = []
        page.on("dialog", lambda dialog, seen=seen: (seen.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request, seen=seen: seen.append(request.url))
        page.on("console", lambda message, seen=seen: seen.append(message.text))
        page.goto(path.as_uri())
        assert seen == [path.as_uri()]
        assert page.locator("script, iframe, object, embed, form, img, svg, base").count() == 0
        links = page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
        assert all(link.startswith("#") or link == "data_license.txt" for link in links)
        text = page.locator("body").inner_text()
        for name in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "a | b"):
            assert name in text.replace("\\", "")
        page.close()
