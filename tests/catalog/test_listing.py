import html.parser
import re

import pytest

from resvox.catalog import ALIASES, DENSE_VARIANTS, FAMILIES, VARIANTS, list_models
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import UnknownModelError


def test_every_row_is_listed_once_in_the_order_of_the_table():
    names = [*(v.name for v in VARIANTS), *SEGMENTERS, *(v.name for v in DENSE_VARIANTS)]
    assert list(list_models()) == names
    assert len(set(names)) == len(names)
    assert isinstance(list_models(), list)


def test_no_alias_shadows_a_name_and_class_names_are_unique():
    names = {variant.name for variant in VARIANTS}
    assert not names & set(ALIASES)
    assert set(ALIASES.values()) <= names
    assert len({variant.class_name for variant in VARIANTS}) == len(VARIANTS)


def test_filters_combine():
    assert list_models("resnet*v2") == [f"resnet{n}v2" for n in (18, 34, 50, 101, 152, 200)]
    assert list_models("RESNET18*") == ["resnet18", "resnet18v2", "resnet18vd", "resnet18_3d"]
    assert list_models(task="regression") == ["resnet18_3d"]
    assert list_models("*_v2") == list_models("resnet*v2")  # through the aliases
    assert list_models(family="seresnext") == ["seresnext50", "seresnext101"]
    assert list_models(task="segmentation") == list(SEGMENTERS)
    assert list_models("*50*", family="resnext") == ["resnext50"]
    assert list_models("nothing") == []
    assert list_models(family="ResNet", task="Classification") == list_models(family="resnet")
    everything = [name for family in FAMILIES for name in list_models(family=family)]
    assert sorted(everything) == sorted(list_models())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"family": "resnets"}, "unknown family 'resnets'; expected one of resnet, resnext"),
        ({"family": "resnets"}, "did you mean resnet"),
        ({"task": "detection"}, "unknown task 'detection'; expected one of classification, segmentation, regression"),
        ({"family": 3}, "unknown family 3"),
    ],
)
def test_an_unknown_filter_is_refused(arguments, text):
    with pytest.raises(UnknownModelError) as caught:
        list_models(**arguments)
    assert text in str(caught.value)


def test_a_terminal_shows_the_table():
    shown = repr(list_models())
    assert "Model Registry Catalog" in shown
    for column in ("Segmentor", "Backbone Family", "Variants"):
        assert column in shown
    for name in list_models():
        assert re.search(rf"• {name}\b", shown), name
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert "resnet18 " not in repr(list_models(family="resnext"))


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1], data))


def test_jupyter_shows_the_table():
    cells = Cells()
    cells.feed(list_models()._repr_html_())
    assert cells.open == []
    assert [text for tag, text in cells.text if tag == "th"] == ["Segmentor", "Backbone Family", "Variants"]
    inside = [text for tag, text in cells.text if tag == "td"]
    assert set(list_models()) <= set(inside)
    assert set(list_models(family="resnet").groups()[0][2]) == set(list_models(family="resnet"))
