"""Libraries that print are silenced alone: what other threads write to standard error arrives."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import resvox


def run(program: str) -> subprocess.CompletedProcess[str]:
    source = Path(resvox.__file__).parents[1]
    text = f"import sys; sys.path.insert(0, {str(source)!r})\n" + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60)


def test_other_threads_are_heard_while_a_library_is_silenced() -> None:
    done = run("""
        import os, threading, time
        from resvox.volumes.silence import silently
        def talk():
            for number in range(50):
                os.write(2, b"heard\\n")
                time.sleep(0.002)
        other = threading.Thread(target=talk)
        other.start()
        for _ in range(10):
            silently(lambda: (os.write(2, b"noise\\n"), time.sleep(0.01)))
        other.join()
        os.write(2, b"last\\n")
    """)
    lines = done.stderr.splitlines()
    assert (lines.count("heard"), lines.count("last")) == (50, 1)
    assert lines.count("noise") in (0, 10)  # 10 where the system does not allow a thread its own descriptors


def test_a_forked_child_has_a_pool_of_its_own_and_errors_come_through() -> None:
    done = run("""
        import os
        from resvox.volumes.silence import silently
        assert silently(lambda: 1) == 1
        child = os.fork()
        if child == 0:
            os._exit(silently(lambda: 7))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        try:
            silently(lambda: 1 / 0)
        except ZeroDivisionError:
            print("came through")
    """)
    assert done.stdout == "came through\n", done.stderr


def test_no_other_descriptor_is_kept_open() -> None:
    """A pipe that the silent thread kept open would never end for its reader."""
    done = run("""
        import os
        from resvox.volumes.silence import silently
        reading, writing = os.pipe()
        silently(lambda: None)
        os.close(writing)
        print(os.read(reading, 10))
    """)
    assert done.stdout == "b''\n", done.stderr
