"""How a walk is shown: text, Markdown, HTML, JSON."""

import json
from html.parser import HTMLParser

import pytest

import resvox
from resvox.walk.tables import binary, count, per_axis


@pytest.fixture(scope="module")
def walk():
    return resvox.walkthrough("resnet26", (2, 3, 64, 64))


def markdown_rows(text):
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]


def test_markdown_is_a_table_of_equal_rows_with_a_sum(walk):
    rows = markdown_rows(walk.to_markdown())
    assert {len(row) for row in rows} == {9}
    assert len(rows) == 2 + 9 + 8 + 1  # head and rule, stages, their blocks, sum
    assert rows[2][0] == "1. conv1"
    assert rows[6][0] == "&emsp;`layer1.0`"
    assert rows[-1][0] == "**Total**"
    assert rows[-1][4] == "**15,995,176**"


def test_depth_opens_as_many_levels_as_asked(walk):
    def names(depth):
        return [row[0] for row in markdown_rows(walk.to_markdown(depth=depth))[2:-1]]

    assert len(names(1)) == 9
    assert "&emsp;`bn1`" in names(2)
    assert "&emsp;&emsp;`layer1.0.conv1`" not in names(2)
    assert "&emsp;&emsp;`layer1.0.conv1`" in names(3)
    assert "&emsp;`conv1`" not in names(3)  # the stem's one convolution is its own line already


def test_json_holds_every_row_as_numbers(walk):
    data = json.loads(walk.to_json())
    assert (data["name"], data["task"], data["input_shape"]) == ("resnet26", "classification", [2, 3, 64, 64])
    assert data["output_shape"] == [2, 1000]
    assert [stage["name"] for stage in data["stages"]] == [stage.name for stage in walk.stages]
    first = data["stages"][3]["children"][0]
    assert first["name"] == "layer1.0"
    assert first["output_shape"] == [2, 256, 16, 16]
    assert {child["operation"] for child in first["children"]} >= {"1x1 convolution, 256", "batch norm", "relu"}
    assert data["flops"] == sum(stage["flops"] for stage in data["stages"]) == walk.flops


def test_text_is_not_cut_away_from_a_terminal(walk, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    walk.print()
    printed = capsys.readouterr().out
    assert "stem convolution: 7x7 convolution, 64, stride 2" in printed
    assert printed.rstrip() == walk.to_text()


def test_text_folds_into_the_width_asked_for(walk):
    assert max(map(len, walk.to_text(width=100).splitlines())) <= 100


def test_repr_is_one_line_of_sums(walk):
    assert repr(walk) == (
        "Walkthrough(resnet26, (2, 3, 64, 64) -> (2, 1000), 9 stages, 15,995,176 parameters, "
        f"{count(walk.flops)}FLOPs, {binary(walk.memory_bytes)} of activations)"
    )


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_a_notebook_gets_a_well_formed_table(walk):
    parser = _Cells()
    parser.feed(walk._repr_html_())
    assert not parser.open
    assert len(parser.rows) == 1 + 9 + 8 + 1
    assert parser.rows[1][:4] == [
        "1. conv1",
        "stem convolution: 7x7 convolution, 64, stride 2",
        "(2, 3, 64, 64)",
        "(2, 64, 32, 32)",
    ]


def test_in_a_notebook_the_value_shows_itself_once(monkeypatch, capsys):
    from resvox.walk import tables

    monkeypatch.setattr(tables, "in_notebook", lambda: True)
    resvox.walkthrough("resnet10", (1, 3, 8, 8))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (1_234_567, "1.23 M"),
        (45_600_000_000, "45.6 G"),
        (4 * 10**14, "400 T"),
    ],
)
def test_counts_go_in_thousands(number, text):
    assert count(number) == text


@pytest.mark.parametrize(("number", "text"), [(8, "8 B"), (1024, "1.00 KiB"), (3 * 2**29, "1.50 GiB")])
def test_bytes_go_in_1024(number, text):
    assert binary(number) == text


def test_sizes_are_said_once_where_axes_agree():
    assert per_axis((7, 7, 7)) == "7"
    assert per_axis((3, 7, 7)) == "3x7x7"
