"""The code of two documents, unchanged, through the drop-in's names: it runs, and gives the documents' figures.

The blocks run as in an interactive session: what stands alone on a line is shown.
"""

import json
import re
from pathlib import Path

import pytest

DOCUMENTS = Path(__file__).with_name("documents")
SESSION = r"""
import ast, contextlib, io, json, pathlib, re, sys

space, seen = {}, []
exec(sys.argv[2], space)
for block in re.findall(r"^```python\n(.*?)^```", pathlib.Path(sys.argv[1]).read_text(), re.M | re.S):
    for statement in ast.parse(block).body:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), "document", "eval"), space)
                text = None if value is None else repr(value)
                seen.append({"line": ast.unparse(statement), "value": text, "printed": printed.getvalue()})
            else:
                exec(compile(ast.Module([statement], []), "document", "exec"), space)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def models(run_program, tmp_path_factory):
    out = run_program(SESSION, DOCUMENTS / "medicai_models.md", "import keras", cwd=tmp_path_factory.mktemp("models"))
    return json.loads(out.splitlines()[-1])


def shown(session, line):
    return [step["value"] for step in session if step["line"] == line]


def test_the_session_has_every_line_that_shows_something(models):
    assert [step["line"] for step in models] == [
        "backbone.count_params() / 1000000.0",
        "model.summary()",
        "model.pyramid_outputs",
        "res_unet.output",
        "res_unet.count_params() / 1000000.0",
        "res_unet.output",
        "res_unet.count_params() / 1000000.0",
        "medicai.models.list_models(family='resnet')",
    ]


def test_counts(models):
    assert shown(models, "backbone.count_params() / 1000000.0") == ["92.35968"]
    assert shown(models, "res_unet.count_params() / 1000000.0") == ["42.688179", "14.822755"]


def test_rows_of_the_summary(models):
    printed = next(step["printed"] for step in models if step["line"] == "model.summary()")
    assert 'Model: "sequential"' in printed
    rows = [tuple(cell.strip() for cell in line.split("│")[1:4]) for line in printed.splitlines() if "│" in line]
    assert rows == [
        ("ResNetBackbone (ResNetBackbone)", "(None, 3, 3, 3, 2048)", "92,359,680"),
        ("global_average_pooling3d", "(None, 2048)", "0"),
        ("(GlobalAveragePooling3D)", "", ""),
        ("dense (Dense)", "(None, 1)", "2,049"),
    ]
    totals = re.findall(r"^ (.*params): ([\d,]+) \(([\d.]+ \w+)\)$", printed, re.MULTILINE)
    assert totals == [
        ("Total params", "92,361,729", "352.33 MB"),
        ("Trainable params", "92,158,849", "351.56 MB"),
        ("Non-trainable params", "202,880", "792.50 KB"),
    ]


def test_outputs_of_the_segmenters(models):
    for value in shown(models, "res_unet.output"):
        assert value.startswith("<KerasTensor shape=(None, 96, 96, 96, 3), dtype=float32")


def test_the_pyramid_has_the_channels_of_a_resnet18(models):
    value = shown(models, "model.pyramid_outputs")[0]
    found = re.findall(r"'(P\d)': <KerasTensor shape=\(None, ([\d, ]+)\)", value)
    sizes = ((48, 64), (24, 64), (12, 128), (6, 256), (3, 512))  # voxels an axis, channels
    assert found == [(f"P{level}", f"{n}, {n}, {n}, {c}") for level, (n, c) in enumerate(sizes, start=1)]


def test_the_table_of_models(models):
    table = shown(models, "medicai.models.list_models(family='resnet')")[0]
    assert "Model Registry Catalog" in table.splitlines()[0]
    heads = [cell.strip() for cell in table.splitlines()[2].split("┃")[1:4]]
    assert heads == ["Segmentor", "Backbone Family", "Variants"]
    cells = [[cell.strip() for cell in line.split("│")[1:4]] for line in table.splitlines() if line.startswith("│")]
    assert cells[0][1] == "resnet"
    models = {"• attention_unet", "• trans_unet", "• unet", "• unet_plus_plus"}
    assert models <= {row[0] for row in cells}
    wanted = ("18", "34", "50", "101", "152", "50v2", "101v2", "152v2", "50vd", "200vd")
    assert {f"• resnet{name}" for name in wanted} <= {row[2] for row in cells}


def test_a_volume_in_a_volume_out_scripted_and_saved(run_program, tmp_path):
    session = json.loads(run_program(SESSION, DOCUMENTS / "resnet18_3d.md", "", cwd=tmp_path).splitlines()[-1])
    assert [step["printed"] for step in session if step["line"] == "print(out.shape)"] == [
        "torch.Size([2, 6, 38, 38, 38])\n"
    ]
    assert (tmp_path / "resnet18_3d.pt").stat().st_size > 4 * 5_723_718
