"""All options of a prediction: defaults once, checked when made, refused where a task has no use for them."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import fields
from pathlib import Path

import pytest

from resvox.errors import InferenceError
from resvox.prediction.options import DEFAULTS, Callbacks, PredictOptions
from resvox.prediction.tasks import ALWAYS_USED, TASKS
from resvox.prediction.totalsegmentator.choices import TotalChoices
from resvox.workflow import predict

OWN = ("model", "inputs", "out")


def test_the_function_and_the_command_line_have_the_defaults_of_the_options():
    import resvox.cli.predict as command

    keywords = {name: each.default for name, each in inspect.signature(predict).parameters.items()}
    words = {name: each.default for name, each in inspect.signature(command.predict).parameters.items()}
    words["format"] = words.pop("label_format")
    total = {name: words.pop(name) for name in ("weights_folder", "roi_subset", "robust_crop", "resampling_order")}
    words["total"] = TotalChoices(run=command._run(words.pop("fast"), words.pop("fastest")), **total)
    for each in fields(PredictOptions):
        if each.name not in OWN:
            assert keywords[each.name] == getattr(DEFAULTS, each.name), each.name
            assert getattr(words[each.name], "value", words[each.name]) == getattr(DEFAULTS, each.name), each.name


def test_the_command_line_offers_every_engine():
    from resvox.cli.predict import Engine
    from resvox.inference.engines.table import ENGINES

    assert [each.value for each in Engine] == ["auto", *(row.name for row in ENGINES)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "warp"}, "engine='warp'; expected 'auto' or 'openvino'"),
        ({"precision": "int4"}, "precision='int4'"),
        ({"resample": "magic"}, "resample='magic'; expected 'logits' or 'labels'"),
        ({"split": "testing"}, "split='testing'; expected 'train'"),
        ({"memory_gb": 0}, "memory_gb=0; expected a number above 0"),
        ({"memory_gb": float("nan")}, "memory_gb=nan"),
        ({"overlap": 1.0}, "overlap=1.0"),
        ({"overlap": -0.1}, "overlap=-0.1"),
        ({"processes": 0}, "processes=0"),
        ({"processes": True}, "processes=True"),
        ({"processes": 1.5}, "processes=1.5"),
        ({"suffix": "/x"}, "suffix='/x'"),
        ({"suffix": "a/b"}, "suffix='a/b'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_when_the_options_are_made(options, words):
    with pytest.raises(InferenceError) as caught:
        PredictOptions(model="m", **options)
    assert words in str(caught.value)


def test_options_travel_to_other_processes_as_they_are():
    options = PredictOptions(model=[Path("a"), "b"], inputs=["x"], out="out", overlap=0.25, processes=3)
    assert pickle.loads(pickle.dumps(options)) == options
    assert options.out == Path("out")
    assert options.changed() == {"overlap": 0.25, "processes": 3}
    with pytest.raises(AttributeError):
        options.overlap = 0.5


def test_options_or_keywords_but_not_too_little(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz")
    options = PredictOptions(model=make_model(), inputs=scan, out=tmp_path / "out", engine="torch-plain")
    assert predict(options=options).ok
    with pytest.raises(InferenceError, match="no model, inputs or out"):
        predict(make_model(), scan)
    with pytest.raises(InferenceError, match=r"mirror beside options; expected one or the other"):
        predict(options=options, mirror=True)
    with pytest.raises(InferenceError, match=r"model, out beside options"):
        predict(make_model(), out=tmp_path, options=options)


def test_every_task_names_options_that_exist():
    known = {each.name for each in fields(PredictOptions)} - set(OWN)
    rows = [*TASKS.values(), *(each for row in TASKS.values() for each in row.formats.values())]
    for row in rows:
        assert row.uses <= known
        assert not row.uses & ALWAYS_USED
    assert known <= ALWAYS_USED.union(*(row.uses for row in rows))


def test_a_note_that_nobody_takes_is_a_warning():
    with pytest.warns(RuntimeWarning, match="memory ran out"):
        Callbacks().note("memory ran out")
    heard = []
    Callbacks(on_note=heard.append).note("again")
    assert heard == ["again"]
