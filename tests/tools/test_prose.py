"""The check of the project's English: zero places in this checkout, and proof that it finds them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(*checkouts):
    command = [sys.executable, str(ROOT / "tools" / "prose.py"), *map(str, checkouts)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checkout(folder, text, name="src/resvox/module.py"):
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


def test_this_checkout_has_none_of_these_phrases():
    done = check(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text",
    [
        '"""Weights of all channels, one a channel."""\n',
        "# one value\n# a voxel, over a line break\n",
        'raise ValueError("numbers, one "\n    "an axis")\n',
        '"""A bool is none of them: here a bool is none."""\n',
        '"""The folder, made where there is none."""\n',
        "told = 1\n",
        '"""What the header says of itself."""\n',
        "# nobody reads this\n",
        '"""The one door to SimpleITK."""\n',
        "room = 3\n",
        '"""Die at birth."""\n',
        'def run():\n    """Of the engines."""\n',
        'def run():\n    """Patches."""\n',
    ],
)
def test_a_planted_phrase_is_found(tmp_path, text):
    done = check(checkout(tmp_path, text))
    assert done.returncode == 1
    assert "src/resvox/module.py:" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        '"""Weights of all channels, one per channel, where there is none of them zero."""\n',
        "position = file.tell()\n",
        '"""Remove a file or a folder."""\n',
    ],
)
def test_plain_sentences_pass(tmp_path, text):
    assert check(checkout(tmp_path, text)).returncode == 0


def test_local_names_of_tests_are_free_but_their_prose_is_not(tmp_path):
    assert check(checkout(tmp_path / "a", "told = 1\n", "tests/test_a.py")).returncode == 0
    assert check(checkout(tmp_path / "b", '"""One a channel: one a channel."""\n', "tests/test_b.py")).returncode == 1


def test_two_checkouts_give_a_table_of_counts_per_folder(tmp_path):
    old = checkout(tmp_path / "old", "told = 1\n", "src/resvox/volumes/grid.py")
    new = checkout(tmp_path / "new", "given = 1\n", "src/resvox/volumes/grid.py")
    done = check(old, new)
    assert done.returncode == 0
    assert "| src/resvox/volumes | 1 | 0 |" in done.stdout
