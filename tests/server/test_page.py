"""The web page in Chromium, driven by Playwright: upload, progress, viewer, downloads, reasons."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from browser.conftest import FLAGS, chromium, pixels
from server.processes import ServerProcess
from server.toy import voxels, write_scan, zipped_series

from resvox import workflow

pytestmark = pytest.mark.serve
TOKEN = "a-token-of-the-tests"
CHOICES = ("--engine", "torch", "--precision", "float32", "--device", "cpu")


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "token").write_text(TOKEN)
    made = ServerProcess(
        folder / "data", str(models / "one"), str(models / "two"), *CHOICES, "--token-file", str(folder / "token")
    ).start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def context():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield started.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
        started.close()


@pytest.fixture
def page(context, server):
    """The page, logged in; errors of scripts and requests to other hosts fail the test."""
    tab = context.new_page()
    errors, urls = [], []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: urls.append(request.url))
    tab.goto(server.url)
    tab.wait_for_selector("#login:not([hidden]), #new:not([hidden])")
    if tab.is_visible("#login"):
        tab.fill("#token", "a-wrong-token-of-tests")
        tab.click("text=Continue")
        tab.wait_for_selector("#login-problem:not([hidden])")
        shot(tab, "login")
        tab.fill("#token", TOKEN)
        tab.click("text=Continue")
    tab.wait_for_selector("#new:not([hidden])")
    yield tab
    assert errors == []
    assert [url for url in urls if not url.startswith((server.url, "blob:", "data:"))] == []
    tab.close()


def shot(tab, name: str) -> None:
    folder = os.environ.get("RESVOX_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def segment(tab, *files: Path, seconds: float = 90) -> tuple[object, set[str]]:
    """Upload files; the job's row when it is over, and the states that were shown on the way."""
    before = tab.locator("#jobs li").count()
    tab.set_input_files("#files", [str(path) for path in files])
    tab.click("#start")
    tab.locator("#jobs li").nth(before).wait_for(timeout=30_000)
    row = tab.locator(f"#{tab.locator('#jobs li').first.get_attribute('id')}")
    seen = set()
    for _ in range(int(seconds * 10)):
        state = row.get_attribute("data-state")
        seen.add(row.locator(".job-state").nth(1).inner_text())
        if state in ("done", "failed", "cancelled"):
            return row, seen
        tab.wait_for_timeout(100)
    raise AssertionError(f"not over within {seconds} s: {seen}")


def download(tab, row, text: str, path: Path) -> Path:
    with tab.expect_download() as waiting:
        row.get_by_text(text, exact=True).click()
    waiting.value.save_as(path)
    return path


def test_a_nifti_is_segmented_with_visible_progress_and_shown(page, models, tmp_path):
    scan = write_scan(tmp_path / "chest.nii.gz", shape=(110, 110, 80))
    row, seen = segment(page, scan)
    assert row.get_attribute("data-state") == "done"
    assert any("of" in words and "windows" in words for words in seen), seen
    assert "chest.nii.gz" in row.inner_text()
    got = download(page, row, "Label map", tmp_path / "got.nii.gz")
    wanted = workflow.predict(models / "one", scan, tmp_path / "out", engine="torch", precision="float32").cases[0].path
    assert np.array_equal(voxels(got), voxels(wanted))
    with zipfile.ZipFile(download(page, row, "Report", tmp_path / "report.zip")) as archive:
        assert archive.namelist() == ["report.html", "views/scan.html"]
    row.get_by_text("Look at the result").click()
    frame = page.frame_locator("#frame")
    frame.locator("html[data-ready=true]").wait_for(state="attached", timeout=120_000)
    page.wait_for_timeout(500)
    assert pixels(frame.locator("#canvas").screenshot()).max() > 100
    assert frame.locator("#labels tbody tr").count() == 2
    shot(page, "nifti")
    page.click("#close")
    row.get_by_text("Delete").click()
    row.wait_for(state="detached")


def test_a_zipped_series_gives_a_segmentation(page, tmp_path):
    path = tmp_path / "study.zip"
    path.write_bytes(zipped_series(tmp_path / "series"))
    row, _ = segment(page, path)
    assert row.get_attribute("data-state") == "done", row.inner_text()
    seg = pydicom.dcmread(download(page, row, "DICOM SEG", tmp_path / "seg.dcm"))
    assert seg.Modality == "SEG"
    assert [each.SegmentLabel for each in seg.SegmentSequence] == ["dark", "bright"]
    row.get_by_text("Look at the result").click()
    frame = page.frame_locator("#frame")
    frame.locator("html[data-ready=true]").wait_for(state="attached", timeout=120_000)
    shot(page, "series")


def test_a_bad_file_gets_its_reason_on_the_page(page, tmp_path):
    whole = write_scan(tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    row, _ = segment(page, tmp_path / "half.nii.gz")
    assert row.get_attribute("data-state") == "failed"
    assert "truncated or damaged gzip data" in row.locator(".problem").inner_text()
    (tmp_path / "a.mhd").write_text("NDims = 3")
    page.set_input_files("#files", str(tmp_path / "a.mhd"))
    page.click("#start")
    page.wait_for_selector("#problem:not([hidden])")
    assert "voxels are in another file" in page.inner_text("#problem")
    shot(page, "bad")


def test_a_running_job_is_cancelled(page, tmp_path):
    scan = write_scan(tmp_path / "large.nii.gz", shape=(200, 200, 120))
    page.set_input_files("#files", str(scan))
    page.click("#start")
    row = page.locator("#jobs li").first
    row.get_by_text("Cancel").click(timeout=30_000)
    page.locator("#jobs li[data-state=cancelled]").first.wait_for(timeout=60_000)
