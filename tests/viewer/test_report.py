"""The page: one file, nothing from outside, text escaped, readable by machines that read aloud."""

from __future__ import annotations

import os
from html.parser import HTMLParser

import pytest

from resvox.viewer import report

PNG = b"\x89PNG not really"


class Page(HTMLParser):
    """Collects tags and what they point to; complains about tags left open."""

    VOID = ("meta", "img", "source", "br", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def full_page():
    return report.page(
        "Title <1>",
        "lead",
        [
            report.tiles([("Dice", "0.97", "HD95 3 mm")]),
            report.notice("Mind", "this & that"),
            report.section("Part", report.paragraph("text"), report.console(["$ resvox demo > log"])),
            report.table("caption", ("label", "Dice"), [("<b>lung", "1")], swatches={"<b>lung": "#E69F00"}),
            report.two_columns(("left", ["a"]), ("right", ["b"])),
            report.picture(PNG, alt='a "scan"', caption="below", dark=PNG),
        ],
        footer="made",
    )


def test_it_is_well_formed_and_needs_nothing_from_outside(full_page):
    page = Page(full_page)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert len(page.links) == 2
    for word in ("http:", "https:", "@import", "url(", "<script", "<link", "//cdn"):
        assert word not in full_page.lower()


def test_a_link_to_the_outside_would_be_seen():
    page = Page('<p><img src="https://example.org/a.png" alt=""></p>')
    assert page.links == ["https://example.org/a.png"]


def test_text_is_escaped(full_page):
    assert "<title>Title &lt;1&gt;</title>" in full_page
    assert "this &amp; that" in full_page
    assert "&lt;b&gt;lung" in full_page
    assert 'alt="a &quot;scan&quot;"' in full_page
    assert "resvox demo &gt; log" in full_page


def test_it_can_be_read_aloud_and_in_the_dark(full_page):
    page = Page(full_page)
    assert page.named("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.named("img"))
    assert {cell["scope"] for cell in page.named("th")} == {"col", "row"}
    assert len(page.named("h1")) == 1
    assert "prefers-color-scheme: dark" in full_page
    assert page.named("source")[0]["media"] == "(prefers-color-scheme: dark)"


def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = report.write_page(tmp_path / "deep" / "report.html", "<p>old ä</p>")

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        report.write_page(path, "<p>new</p>")
    assert path.read_text(encoding="utf-8") == "<p>old ä</p>"
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
