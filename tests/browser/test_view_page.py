"""The interactive page as a person uses it: labels, windows, comparison, keys. Driven by Playwright."""

from __future__ import annotations

import pytest
from browser.conftest import FLAGS, GREEN, RED, chromium, pixels, share_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(browser, page):
    """The page, ready; any request that leaves the file, and any error of a script, fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, offline=True)
    tab = context.new_page()
    errors, requests = [], []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_function("document.documentElement.dataset.ready", timeout=120_000)
    assert tab.evaluate("document.documentElement.dataset.ready") == "true", tab.inner_text("#problem")
    yield tab
    context.close()
    assert errors == []
    assert [url for url in requests if url.split(":")[0] not in ("file", "data", "blob")] == []


def canvas(tab):
    tab.wait_for_timeout(300)
    return pixels(tab.locator("#canvas").screenshot())


def status(tab):
    return tab.inner_text("#status")


def test_the_canvas_shows_scan_and_labels(opened):
    picture = canvas(opened)
    assert picture.max() > 100
    assert share_of(picture, RED) > 0.02
    assert share_of(picture, GREEN) > 0.02


def test_the_label_under_the_cursor_has_its_name_and_its_colour(opened):
    opened.evaluate("resvox.setView('axial')")
    opened.click("text=right box")
    assert "Prediction: right box" in status(opened)
    assert "right box" in opened.inner_text("tr.current")
    picture = canvas(opened)
    # The crosshair stands inside the box; the pixels around its centre have the box's colour.
    x, y = opened.evaluate(
        "(() => { const nv = resvox.viewer(); const t = nv.screenSlices[0].leftTopWidthHeight;"
        " const f = nv.scene.crosshairPos;"
        " const s = nv.gl.canvas.clientWidth / nv.gl.canvas.width;"
        " return [(t[0] + (1 - f[0]) * t[2]) * s, (t[1] + (1 - f[1]) * t[3]) * s]; })()"
    )
    around = picture[int(y) - 12 : int(y) - 4, int(x) - 12 : int(x) - 4]
    assert share_of(around, GREEN) > 0.9


def test_clicking_on_the_canvas_names_what_is_there(opened):
    opened.evaluate("resvox.setView('axial')")
    box = opened.locator("#canvas").bounding_box()
    seen = set()
    for part in (0.35, 0.65):
        opened.mouse.click(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
        opened.wait_for_timeout(200)
        seen.add(status(opened).split("Prediction: ")[1].split("Reference")[0].strip())
    assert seen == {"left box", "right box"}


def test_a_label_can_be_hidden_and_the_opacity_changed(opened):
    opened.get_by_label("Show left box").uncheck()
    picture = canvas(opened)
    assert share_of(picture, RED) < 0.001
    assert share_of(picture, GREEN) > 0.02
    opened.locator("#opacity").fill("0")
    assert share_of(canvas(opened), GREEN) < 0.001


def test_an_outline_leaves_the_inside_free(opened):
    opened.evaluate("resvox.setView('axial')")
    filled = share_of(canvas(opened), RED)
    opened.keyboard.press("o")
    outlined = share_of(canvas(opened), RED)
    assert 0 < outlined < 0.6 * filled


def test_window_presets_change_the_picture(opened):
    opened.locator("#opacity").fill("0")
    opened.get_by_role("button", name="soft tissue").click()
    soft = canvas(opened).mean()
    opened.get_by_role("button", name="lung").click()
    lung = canvas(opened).mean()
    assert lung > soft + 5  # 40 HU is in the middle of one window and near the top of the other
    opened.keyboard.press("w")
    assert opened.get_by_role("button", name="bone").get_attribute("aria-pressed") == "true"


def test_prediction_and_reference_are_compared(opened):
    opened.get_by_role("button", name="Disagreement").click()
    picture = canvas(opened)
    assert share_of(picture, RED) < 0.02
    assert "only in the prediction" in opened.inner_text("#compare-legend")
    assert (abs(picture - [86, 180, 233]).sum(axis=-1) < 250).any()
    opened.keyboard.press("c")
    assert opened.get_by_role("button", name="Prediction").get_attribute("aria-pressed") == "true"


def test_the_list_can_be_filtered_and_stepped_through(opened):
    opened.locator("#filter").fill("right")
    assert opened.locator("#labels tbody tr").count() == 1
    opened.locator("#filter").fill("")
    opened.locator("#canvas").focus()
    opened.keyboard.press("n")
    first = status(opened)
    opened.keyboard.press("n")
    assert status(opened) != first


def test_views_are_chosen_by_key(opened):
    opened.locator("#canvas").focus()
    for key, name in (("2", "Axial"), ("3", "Coronal"), ("4", "Sagittal"), ("5", "3D"), ("1", "Planes + 3D")):
        opened.keyboard.press(key)
        button = opened.get_by_role("button", name=name, exact=True)
        assert button.get_attribute("aria-pressed") == "true"
        assert canvas(opened).max() > 60
