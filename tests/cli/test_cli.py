"""The command line: help, exit codes, one-line errors, and that it starts fast because it loads nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import resvox
from resvox import workflow
from resvox.cli import app, main
from resvox.cli.commands import MODULES
from resvox.errors import ResvoxError

SOURCE = Path(resvox.__file__).resolve().parents[1]
INTERRUPTED = "interrupted; what is written is whole."
VERBS = ("train", "predict", "evaluate", "models", "demo")


@pytest.fixture
def call(monkeypatch):
    """Call the command line inside of this process; no colours, a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def run_python(*words):
    """A Python process of its own that finds this source."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(call, verb):
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert f"$ resvox {verb}" in result.stdout
    assert "--debug" in result.stdout
    assert "[bold]" not in result.stdout


def test_help_names_every_verb(call):
    result = call("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert verb in result.stdout
    assert call().exit_code in (0, 2)  # no argument: the same help
    assert "Commands" in call().output


def test_the_version_is_the_packages(call):
    assert call("--version").stdout.strip() == f"resvox {resvox.__version__}"


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "torch", "keras", "tensorflow", "monai", "SimpleITK", "scipy", "matplotlib", "yaml"}
    code = (
        "import sys, resvox.cli\nsys.argv = ['resvox', '--help']\n"
        "try: resvox.cli.main()\nexcept SystemExit: pass\n"
        f"print('loaded:', sorted({heavy!r} & set(sys.modules)))"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_importing_resvox_loads_no_framework():
    code = "import sys, resvox\nprint(sorted({'torch', 'keras', 'monai', 'numpy'} & set(sys.modules)))"
    assert run_python("-c", code).stdout.strip() == "[]"
    planted = code.replace("import sys, resvox", "import sys, resvox, torch")
    assert "torch" in run_python("-c", planted).stdout


def test_each_command_is_in_the_module_of_its_name(call):
    names = [path.stem for path in (SOURCE / "resvox/cli").glob("*.py") if "@verb(" in path.read_text()]
    assert sorted(MODULES) == sorted(names)
    for name in MODULES:
        assert call(name.replace("_", "-"), "--help").exit_code == 0


def test_python_m_resvox_is_resvox():
    done = run_python("-m", "resvox", "models", "resnet18", "--json")
    assert json.loads(done.stdout) == ["resnet18"]


@pytest.mark.parametrize(
    "words",
    [
        ("trian",),
        ("predict", "model.safetensors"),
        ("predict", "model.safetensors", "a.nii.gz", "-o", "out", "--overlap", "1.5"),
        ("train", "data", "-o", "run", "--patch-size", "64,64,sixty"),
        ("train", "data", "-o", "run", "--spacing", "1,-1,1"),
        ("train", "data", "-o", "run", "--device", "abacus"),
        ("demo", "--bananas"),
    ],
)
def test_a_wrong_call_exits_2_without_a_traceback(call, words):
    result = call(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "Error" in result.output or "Usage" in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("train", "nowhere", "-o", "run"),
            r"^error: nowhere: no such file or folder; expected a folder with dataset\.json",
        ),
        (("predict", "nowhere", "a.nii.gz", "-o", "out"), r"^error: nowhere: no such model; expected"),
        (("evaluate", "nowhere", "there"), r"^error: nowhere: no such file or folder; expected label maps$"),
        (("models", "resnat*"), r"^error: no model matches 'resnat\*'; fix: resvox models shows all names$"),
        (("models", "--family", "resnat"), r"^error: unknown family 'resnat'; expected one of"),
    ],
)
def test_an_error_is_one_line_on_stderr(call, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert re.search(text, result.stderr)


def test_debug_shows_the_traceback(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("train", "nowhere", "-o", "run", "--debug")
    assert isinstance(result.exception, ResvoxError)


def raises(error):
    def verb(*arguments, **options):
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(28, "No space left on device", "run/last.pt"), 1, "error: run/last.pt: No space left on device"),
        (PermissionError(13, "Permission denied", "out"), 1, "error: out: Permission denied"),
        (MemoryError("Unable to allocate 9.0 TiB"), 1, "error: Unable to allocate 9.0 TiB"),
        (MemoryError(), 1, "error: not enough memory (MemoryError)"),
        (ResvoxError("a\nb", fix="c"), 1, "error: a b; fix: c"),
        (KeyboardInterrupt(), 130, f"error: {INTERRUPTED} The same command with --resume goes on."),
    ],
)  # fmt: skip
def test_no_mistake_of_a_user_shows_a_traceback(call, monkeypatch, error, code, text):
    monkeypatch.setattr(workflow, "train", raises(error))
    result = call("train", "data", "-o", "run")
    assert result.exit_code == code
    assert result.stderr.strip() == text


def test_a_bug_is_not_hidden(call, monkeypatch):
    monkeypatch.setattr(workflow, "train", raises(ZeroDivisionError()))
    assert isinstance(call("train", "data", "-o", "run").exception, ZeroDivisionError)


def test_options_reach_the_workflow(call, monkeypatch):
    seen = {}

    def train(dataset, out, **passed):
        seen.update(passed, dataset=dataset, out=out)
        raise ResvoxError("enough")

    monkeypatch.setattr(workflow, "train", train)
    call(
        "train", "data", "-o", "run", "--model", "unet", "--encoder", "resnet34", "--norm", "group",
        "--patch-size", "16,32,48", "--spacing", "3x1x1", "--batch-size", "4",
        "--steps", "9", "--minutes", "2.5", "--precision", "bf16-mixed",
        "--device", "cpu", "--processes", "2", "--workers", "1", "--seed", "5", "--resume",
        "--weights", "w.pt", "--weights-peer", "timm", "--frozen-stages", "2", "--layer-decay", "0.5",
        "--optimizer", "sgd", "--schedule", "cosine", "--no-deep-supervision", "--ema", "0.99",
        "--augmentation", "nnunet", "--oversample", "0.33", "--no-batch-dice", "--label-smoothing", "0.1",
        "--recipe", "nnunet", "--preset", "L", "--memory-gb", "12", "--profile",
        "--class-weights", "--no-balanced", "--channel-dropout", "0.2",
    )  # fmt: skip
    del seen["on_plan"]
    options = workflow.TrainOptions(
        model="unet", encoder="resnet34", norm="group", steps=9, minutes=2.5, patch_size=(16, 32, 48),
        spacing_mm=(3.0, 1.0, 1.0), batch_size=4,
        resume=True, device="cpu", processes=2, precision="bf16-mixed", seed=5, workers=1,
        weights="w.pt", weights_peer="timm", frozen_stages=2, layer_decay=0.5, optimizer="sgd", schedule="cosine",
        deep_supervision=False, ema=0.99, augmentation="nnunet", oversample=0.33, batch_dice=False, label_smoothing=0.1,
        class_weights=True, balanced=False, channel_dropout=0.2, recipe="nnunet", preset="L", memory_gb=12.0,
        profile=True,
    )  # fmt: skip
    assert seen == {"dataset": Path("data"), "out": Path("run"), "options": options}


def test_prediction_options_reach_the_workflow(call, monkeypatch):
    seen = {}

    def predict(*, options, **callbacks):
        seen.update(vars(options))
        raise ResvoxError("enough")

    monkeypatch.setattr(workflow, "predict", predict)
    call(
        "predict", "fold_0", "a.nii.gz", "-o", "out", "--also", "fold_1", "--engine", "torch-plain", "--processes", "3",
        "--memory-gb", "0.5", "--skip-empty", "--resample", "labels", "--series", "7", "--overlap", "0.25",
        "--speed", "balanced",
    )  # fmt: skip
    asked = (
        "model",
        "engine",
        "processes",
        "memory_gb",
        "skip_empty",
        "resample",
        "series",
        "overlap",
        "mirror",
        "speed",
    )
    assert {name: seen[name] for name in asked} == {
        "model": [Path("fold_0"), Path("fold_1")], "engine": "torch-plain", "processes": 3, "memory_gb": 0.5,
        "skip_empty": True, "resample": "labels", "series": "7", "overlap": 0.25, "mirror": None,
        "speed": "balanced",
    }  # fmt: skip


def test_export_tells_what_it_wrote_and_how_well_it_agrees(call, monkeypatch):
    from resvox.workflow.export import ExportCheck, ExportResult

    def export(model, out, *, format, precision, calibrate, overwrite, on_progress, on_note):
        assert (precision, calibrate) == ("float32", ())
        return ExportResult(
            path=Path(out), description=Path("net.json"), format=format, any_size=False, seconds=1.0,
            check=ExportCheck(difference=2e-6, labels_changed=0.00001),
        )  # fmt: skip

    monkeypatch.setattr(workflow, "export", export)
    done = call("export", "m.safetensors", "--format", "openvino", "-o", "net.xml")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "checked: logits differ by at most 2.0e-06 of the largest, 0.001 % of labels",
        "for windows of the model's size alone: this network does not export with open sizes",
        "Wrote net.xml and net.json beside it",
    ]


@pytest.mark.parametrize(
    ("verb", "words", "found"),
    [
        ("train", ["data", "-o", "run", "--task", "classification"], {"task": "classification"}),
        ("predict", ["run", "x.npz", "-o", "out", "--split", "validation"], {"split": "validation"}),
        (
            "evaluate",
            ["out", "x.npz", "--task", "regression", "--split", "all"],
            {"task": "regression", "split": "all"},
        ),
        ("evaluate", ["out", "x.npz"], {"task": None, "split": None}),
    ],
)
def test_tasks_and_splits_reach_the_workflow(call, monkeypatch, verb, words, found):
    seen = {}

    def stand_in(*arguments, **options):
        seen.update(vars(options.pop("options")) if "options" in options else {}, **options)
        raise ResvoxError("enough")

    monkeypatch.setattr(workflow, verb, stand_in)
    assert call(verb, *words).exit_code == 1
    assert {name: seen[name] for name in found} == found


def test_models_are_filtered_and_listed(call):
    table = call("models", "--task", "segmentation")
    assert table.exit_code == 0
    assert "unet" in table.stdout
    names = json.loads(call("models", "resnet1*", "--family", "resnet", "--json").stdout)
    assert "resnet18" in names
    assert names == list(resvox.list_models("resnet1*", family="resnet"))


def test_ctrl_c_exits_130_with_a_line_on_how_to_go_on(tmp_path):
    code = (
        "import os, signal, sys, threading, resvox.workflow, resvox.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where make itself runs behind a shell
        "def slow(*a, **k):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait(60)\n"
        "resvox.workflow.predict = slow\n"
        "sys.argv = ['resvox', 'predict', 'm', 'a.nii.gz', '-o', 'out']\n"
        "resvox.cli.main()"
    )
    done = run_python("-c", code)
    assert done.returncode == 130, (done.returncode, done.stderr, signal.SIGINT)
    assert done.stderr.splitlines() == [
        "error: interrupted; what is written is whole. The same command goes on where it stopped."
    ]


def test_main_is_the_entry_point():
    assert callable(main)
