"""The walk of a network: its shapes, its sums, and what it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox
from resvox.errors import BlueprintError, UnknownModelError

DOCUMENT = Path(__file__).with_name("resnet_walkthrough_shapes.md")
LINE = re.compile(r"^( *)(?:\d+\.|-) [^:]+: (\([\d, ]+\)) -> (\([\d, ]+\))$", re.MULTILINE)


def _axes(text):
    return tuple(int(number) for number in text.strip("()").split(","))


def documented_steps():
    """[(input, output, [(input, output) of its blocks])] of the document."""
    steps = []
    for indent, before, after in LINE.findall(DOCUMENT.read_text()):
        shapes = (_axes(before), _axes(after))
        if indent:
            steps[-1][2].append(shapes)
        else:
            steps.append((*shapes, []))
    return steps


def test_nine_steps_have_the_documents_shapes():
    walk = resvox.walkthrough("resnet26", (1, 3, 214, 214))
    blocks = [
        [(c.input_shape, c.output_shape) for c in stage.children if c.operation == "bottleneck block"]
        for stage in walk.stages
    ]
    found = [(stage.input_shape, stage.output_shape, inner) for stage, inner in zip(walk.stages, blocks, strict=True)]
    assert len(documented_steps()) == 9
    assert found == documented_steps()


def test_the_documents_input_is_the_default():
    assert resvox.walkthrough("resnet26").input_shape == (1, 3, 214, 214)


def test_every_documented_shape_is_printed_in_order(capsys):
    resvox.walkthrough("resnet26")
    printed = capsys.readouterr().out
    rows = [tuple(map(_axes, re.findall(r"\(\d[\d, ]*\)", row)))[:2] for row in printed.splitlines()]
    rows = [row for row in rows if len(row) == 2][:-1]  # the last one sums up
    expected = []
    for before, after, blocks in documented_steps():
        expected += [(before, after), *blocks]
    assert rows == expected


def test_figures_of_resnet50():
    walk = resvox.walkthrough("resnet50", (1, 3, 224, 224))
    assert walk.parameters == 25_557_032
    assert walk.flops == 2 * 4_089_184_256  # torchvision's multiply-adds
    assert sum(stage.parameters for stage in walk.stages) == walk.parameters
    assert walk.stages[6].receptive_field == (427, 427)
    assert walk.stages[6].stride == (32, 32)


def test_a_row_counts_the_bytes_its_operations_write():
    walk = json.loads(resvox.walkthrough("resnet18", (2, 1, 8, 8)).to_json())
    stem, normalized, pooled = walk["stages"][:3]
    assert stem["memory_bytes"] == 4 * 2 * 64 * 4 * 4
    assert normalized["memory_bytes"] == 2 * stem["memory_bytes"]  # norm and activation each write a map
    assert pooled["memory_bytes"] == stem["memory_bytes"] // 4
    assert walk["memory_bytes"] == sum(stage["memory_bytes"] for stage in walk["stages"])


@pytest.mark.parametrize("name", resvox.list_models(task="classification"))
@pytest.mark.parametrize("shape", [(1, 1, 40, 33), (1, 2, 20, 33, 17)], ids=["2d", "3d"])
def test_a_classifier_has_nine_stages(name, shape):
    walk = resvox.Walkthrough.of(name, shape, num_classes=7)
    assert len(walk.stages) == 9
    assert walk.stages[0].input_shape == shape
    assert walk.stages[-1].output_shape == (1, 7)
    depths = [len(s.children) for s in walk.stages if s.operation.startswith("residual stage")]
    assert len(depths) == 4
    assert all(row.parameters >= 0 and len(row.stride) == len(shape) - 2 for s in walk.stages for row in s.walk())


@pytest.mark.parametrize("shape", [(1, 1, 40, 33), (1, 2, 20, 33, 17)], ids=["2d", "3d"])
@pytest.mark.parametrize("name", resvox.list_models(task="segmentation"))
def test_a_segmenter_ends_with_the_size_it_began_with(name, shape):
    walk = resvox.Walkthrough.of(name, shape, num_classes=3)
    assert walk.stages[-1].output_shape == (1, 3, *shape[2:])
    assert walk.stages[-1].stride == (1,) * (len(shape) - 2)
    whole = {"resenc_unet": "stem", "residual_unet": "stem", "plain_unet": "stages.0", "segresnet": "conv",
             "segresnet_ds": "conv", "monai_unet": "levels.0"}  # fmt: skip
    first = whole.get(name, "bn1 + encoder.act1")
    names = {row.name for row in walk.stages}
    assert f"encoder.{first}" in names
    assert any(each.startswith("head") for each in names)


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(2, 9), size=st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_a_batch_scales_work_and_memory_but_not_weights(batch, size):
    one = resvox.Walkthrough.of("resnet18", (1, 3, *size))
    many = resvox.Walkthrough.of("resnet18", (batch, 3, *size))
    assert many.flops == batch * one.flops
    assert many.memory_bytes == batch * one.memory_bytes
    assert many.parameters == one.parameters
    for a, b in zip(one.stages, many.stages, strict=True):
        for single, batched in zip(a.walk(), b.walk(), strict=True):
            assert batched.output_shape == (batch, *single.output_shape[1:])
            assert batched.input_shape == (batch, *single.input_shape[1:])
            assert batched.receptive_field == single.receptive_field
            assert (batched.flops, batched.activations) == (batch * single.flops, batch * single.activations)


def test_options_of_the_model_are_taken_and_a_blueprint_too():
    by_name = resvox.walkthrough("resnet18", (1, 1, 16, 16, 16), num_classes=2, norm="instance")
    blueprint = resvox.get_blueprint("resnet18", spatial_dims=3, in_channels=1, num_classes=2, norm="instance")
    assert resvox.walkthrough(blueprint, (1, 1, 16, 16, 16)) == by_name
    assert by_name.stages[1].children[0].operation == "instance norm"


def test_nothing_of_a_framework_is_imported():
    code = (
        "import sys, resvox; resvox.walkthrough('resnet152', (4, 3, 512, 512, 512));"
        "assert not {'torch', 'keras', 'numpy'} & set(sys.modules), 'a framework was imported'"
    )
    source = Path(resvox.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(source)})


def test_the_public_name_is_the_function_whatever_was_imported():
    import resvox.walk
    import resvox.walk.walkthrough

    assert callable(resvox.walkthrough)
    assert isinstance(resvox.walkthrough("resnet10", (1, 3, 8, 8)), resvox.Walkthrough)


@pytest.mark.parametrize("shape", [(1, 3, 214), (3,), (1, 3, 0, 5), (1.0, 3, 8, 8), (True, 3, 8, 8), "1,3,8,8", 214])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(BlueprintError, match=r"expected \(batch, channels, H, W\) or \(batch, channels, D, H, W\)"):
        resvox.walkthrough("resnet18", shape)


def test_arguments_that_contradict_the_shape_are_refused():
    with pytest.raises(BlueprintError, match=r"spatial_dims=3 and input_shape=\(1, 3, 214, 214\), which gives 2"):
        resvox.walkthrough("resnet18", spatial_dims=3)
    with pytest.raises(BlueprintError, match=r"in_channels=1 and input_shape=\(1, 3, 8, 8\), which gives 3"):
        resvox.walkthrough("resnet18", (1, 3, 8, 8), in_channels=1)
    with pytest.raises(BlueprintError, match="in_channels"):
        resvox.walkthrough("resnet18", (1, 3, 8, 8), in_chans=1)
    volume = resvox.get_blueprint("resnet18", spatial_dims=3)
    with pytest.raises(BlueprintError, match="spatial_dims=3 and input_shape"):
        resvox.walkthrough(volume)
    with pytest.raises(BlueprintError, match=r"a blueprint and arguments \['num_classes'\]"):
        resvox.walkthrough(volume, (1, 3, 8, 8, 8), num_classes=3)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(UnknownModelError, match="resnet18"):
        resvox.walkthrough("resnet19")
    with pytest.raises(BlueprintError, match="unknown option nrom="):
        resvox.walkthrough("resnet18", nrom="batch")
