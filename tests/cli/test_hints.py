"""Options of other programs are answered with what does the same here."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from resvox.cli import app
from resvox.cli.hints import HINTS, SAME, hint_for


def options_of(verb):
    import typer.main

    command = typer.main.get_command(app).commands[verb]
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts)]


def said(*words):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            ("train", "data", "-o", "run", "--lr", "1e-3"),
            "No such option: --lr; the learning rate is a field of the plan",
        ),
        (("train", "data", "-o", "run", "--learning_rate=1e-3"), "the learning rate is a field of the plan"),
        (("train", "data", "-o", "run", "--gpu", "0"), "No such option: --gpu; use --device cuda"),
        (("predict", "model", "scan", "-o", "out", "--gpus=1"), "No such option: --gpus; use --device cuda"),
        (("train", "data", "-o", "run", "--max_epochs", "9"), "use --steps or --minutes"),
        (("train", "data", "--output", "run"), "use --out (-o)"),
        (
            ("predict", "model", "scan", "--out", "o", "--memory_gb", "3"),
            "No such option: --memory_gb; use --memory-gb",
        ),
        (("evaluate", "a", "b", "--tolerance", "3"), "use --tolerance-mm"),
    ],
)
def test_an_option_of_another_program_is_answered_with_ours(words, hint):
    assert hint in said(*words)


def test_what_has_no_hint_is_left_to_the_parser():
    assert "--pach-size" in said("train", "data", "-o", "run", "--pach-size", "3")
    assert hint_for("--gpu", options_of("models")) == ""
    assert hint_for("--no-such-thing", options_of("train")) == ""
    # behind -- everything is an argument
    assert "No such option" not in CliRunner().invoke(app, ["walkthrough", "--", "--lr"]).output


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate", "export", "convert", "demo"])
def test_no_option_of_ours_is_taken_for_a_foreign_one(verb):
    known = options_of(verb)
    assert all(hint_for(option, known) == "" for option in known)


def test_every_hint_names_an_option_that_exists():
    every = {option for verb in ("train", "predict", "evaluate", "export") for option in options_of(verb)}
    assert {wanted for wanted, _ in HINTS.values()} <= every
    assert set(SAME.values()) <= set(HINTS)
