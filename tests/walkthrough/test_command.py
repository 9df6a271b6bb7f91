"""`resvox walkthrough` and the words it takes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import resvox
from resvox.errors import BlueprintError
from resvox.walk import parse_options, parse_shape


def command(*words):
    source = str(Path(resvox.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-m", "resvox", "walkthrough", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )


def test_the_documents_steps_come_out_of_the_command():
    done = command("resnet26", "--input", "1,3,214,214")
    assert done.returncode == 0, done.stderr
    document = Path(__file__).with_name("resnet_walkthrough_shapes.md").read_text()
    for step, before, after in re.findall(r"^(\d)\. [^:]+: (\(.*\)) -> (\(.*\))$", document, re.MULTILINE):
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"│ {step}. "))
        assert re.search(rf"│ {re.escape(before)} +│ {re.escape(after)} +│", row), row


def test_json_and_markdown_and_options():
    words = ("unet", "encoder_name=resnet10", "encoder_depth=2", "num_classes=4", "--input", "2,1,9,9,9")
    data = json.loads(command(*words, "norm=instance", "--json").stdout)
    assert data["output_shape"] == [2, 4, 9, 9, 9]
    assert data["stages"][1]["children"][0]["operation"] == "instance norm"
    shallow = command(*words, "--markdown", "--depth", "1").stdout
    assert shallow.startswith("# unet, input (2, 1, 9, 9, 9)\n")
    assert "encoder.layer1.0" not in shallow
    assert "encoder.layer1.0" in command(*words, "--markdown").stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("resnet18", "norm"), "'norm'; expected option=value"),
        (("resnet18", "nrom=batch"), "unknown option nrom= for resnet18"),
        (("resnet18", "name=x"), "name='x' as an option of the model"),
        (("resnet18", "input_shape=3"), "input_shape=3 as an option of the model"),
        (("resnet18", "--input", "1,3,a"), "--input '1,3,a'; expected batch,channels,H,W"),
        (("resnet18", "--input", "1,3,8"), "input_shape=(1, 3, 8); expected"),
        (("resnet19",), "unknown model 'resnet19'"),
    ],
)
def test_a_mistake_is_one_line(words, text):
    done = command(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {text}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_values_are_read_as_a_shell_hands_them_over():
    found = parse_options(
        ["num_classes=3", "strides=1,2,2,2,2", "norm=('group', {'num_groups': 4})", "stem=deep", "zero=TRUE", "a=none"]
    )
    assert found == {
        "num_classes": 3,
        "strides": (1, 2, 2, 2, 2),
        "norm": ("group", {"num_groups": 4}),
        "stem": "deep",
        "zero": True,
        "a": None,
    }
    assert parse_shape("1x3x8x8") == parse_shape("1,3,8,8") == (1, 3, 8, 8)


def test_an_option_said_twice_is_refused():
    with pytest.raises(BlueprintError, match="norm= twice"):
        parse_options(["norm=batch", "norm=group"])
