"""Addresses of models on a hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox.errors import WeightsError
from resvox.hub import HubAddress, is_address
from resvox.hub.fetching import wanted_files
from resvox.hub.licences import licence_identifier

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
REVISIONS = st.none() | st.lists(NAMES, min_size=1, max_size=2).map("/".join)  # git's branches may have folders
INSIDE = st.lists(NAMES, max_size=3).map("/".join)


@given(owner=NAMES, name=NAMES, inside=INSIDE, revision=REVISIONS)
def test_an_address_is_read_as_it_is_written(owner, name, inside, revision):
    address = HubAddress(repository=f"{owner}/{name}", inside=inside, revision=revision)
    assert HubAddress.parse(str(address)) == address
    assert HubAddress.parse(Path(str(address))) == address  # the command line makes paths of its arguments
    assert is_address(str(address))
    assert is_address(Path(str(address)))


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://owner", "hf://owner/", "hf://owner/name@", "hf://owner/name@a@b", "hf://owner/na me", "hf://../name",
     "hf://owner/name/../other", "hf://owner/name//file", "hf://-o/name"],
)  # fmt: skip
def test_another_form_is_refused_with_the_right_one(text):
    with pytest.raises(WeightsError, match=r"expected hf://owner/name, hf://owner/name@revision") as caught:
        HubAddress.parse(text)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "source", ["model.safetensors", "hf/owner/name", "https://host/x", Path("hf.pth"), {}, None, 3]
)
def test_other_sources_are_not_addresses(source):
    assert not is_address(source)


FILES = [".gitattributes", "README.md", "config.json", "model.safetensors", "pytorch_model.bin", "model.json"]


@pytest.mark.parametrize(
    ("files", "inside", "wanted"),
    [
        (FILES, "", ("model.safetensors", "model.json")),
        (FILES, "pytorch_model.bin", ("pytorch_model.bin",)),
        (["a.pth", "a.txt"], "", ("a.pth",)),
        (["net.xml", "net.bin", "net.json"], "", ("net.xml", "net.bin", "net.json")),
        (["f0/model.safetensors", "f1/model.safetensors"], "", ("f0/model.safetensors", "f1/model.safetensors")),
        (["f0/model.safetensors", "f1/model.safetensors"], "f1", ("f1/model.safetensors",)),
    ],
)
def test_what_is_downloaded(files, inside, wanted):
    found = wanted_files(files, HubAddress(repository="o/n", inside=inside))
    assert sorted(set(found)) == sorted(wanted)


def test_a_repository_without_weights_names_what_it_has():
    with pytest.raises(WeightsError, match=r"hf://o/n: no file of weights.*it has README.md"):
        wanted_files(["README.md"], HubAddress(repository="o/n"))


def test_licences():
    assert licence_identifier(" Apache-2.0") == "apache-2.0"
    with pytest.raises(WeightsError, match=r"the licence 'apache2'; .*did you mean apache-2.0"):
        licence_identifier("apache2")
