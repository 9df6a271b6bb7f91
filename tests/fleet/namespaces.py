"""Two machines on one: two network namespaces joined by a cable (veth), each with a host name of its own.

Needs Linux, the rights of root and ``ip`` (iproute2).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A namespace: its name, its address, and its end of the cable."""

    name: str
    address: str
    cable: str

    def start(self, *words, **settings):
        """Start a program in it."""
        renamed = ("unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.name)
        return subprocess.Popen(
            [*map(str, ("ip", "netns", "exec", self.name, *renamed, *words))], text=True, **settings
        )

    def cut(self):
        """Cut the cable: nothing arrives, and no connection is closed."""
        ip("-n", self.name, "link", "set", self.cable, "down")


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not():
    """Why there are no namespaces here; empty where there are."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and the rights of root"
    name = f"probe{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the kernel permits no network namespaces, or ip is missing: {getattr(error, 'stderr', '') or error}"
    return ""


@contextlib.contextmanager
def two_machines():
    """Two machines, 10.77.0.1 and 10.77.0.2, which see each other and nothing else."""
    mark = f"{os.getpid() % 100000}"
    machines = [Machine(f"rv{letter}{mark}", f"10.77.0.{1 + at}", f"v{letter}{mark}") for at, letter in enumerate("ab")]
    try:
        for machine in machines:
            ip("netns", "add", machine.name)
        one, other = machines
        ip("link", "add", one.cable, "netns", one.name, "type", "veth", "peer", other.cable, "netns", other.name)
        for machine in machines:
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", machine.cable)
            ip("-n", machine.name, "link", "set", machine.cable, "up")
            ip("-n", machine.name, "link", "set", "lo", "up")
        yield machines
    finally:
        for machine in machines:
            end_all_in(machine)
            subprocess.run(["ip", "netns", "del", machine.name], check=False, capture_output=True)


def end_all_in(machine):
    """End what still runs in a namespace, which this process has made."""
    found = subprocess.run(["ip", "netns", "pids", machine.name], check=False, capture_output=True, text=True)
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
