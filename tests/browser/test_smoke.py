"""The interactive page opens from a folder in Chromium, with no network, and draws."""

from __future__ import annotations

import subprocess

from browser.conftest import FLAGS, GREEN, RED, chromium, pixels, share_of


def test_the_page_draws_scan_and_labels_in_chromium(page, tmp_path):
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [
            chromium(), "--headless=new", *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,800",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=60000",
            f"--screenshot={shot}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert shot.is_file(), done.stderr[-2000:]
    picture = pixels(shot.read_bytes())[:, :800]
    assert share_of(picture, RED) > 0.01
    assert share_of(picture, GREEN) > 0.01
