"""Processes that are killed while a store is faulty, and parts of a run that are killed and run again."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from scaling.bench import ENGINE, Bench, faulty, make_model, make_scans, of_folder, shown_by


def processes_of(session: int) -> dict[int, str]:
    """Processes of a session and their command lines."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if os.getsid(int(path.name)) == session:
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def victim(kind: str, child: subprocess.Popen[str], chance: random.Random) -> int | None:
    """The process to end: an actor at work, another process of the raylet or itself, or the driver."""
    if kind == "driver":
        return child.pid
    running = processes_of(child.pid)
    if kind == "actor":
        found = [pid for pid, words in running.items() if words.startswith("ray::Actor")]
    else:
        found = [pid for pid, words in running.items() if words.startswith("ray::IDLE") or "/raylet/raylet " in words]
    return chance.choice(sorted(found)) if found else None


def claims(bench: Bench, bucket: str) -> int:
    return len(bench.client.find(f"{bucket}/out/.resvox/claims"))


def kills(bench: Bench, args: argparse.Namespace) -> None:
    """Processes ended at random moments while a store is faulty; then every case is there once, none half."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    folder = make_scans(bench.state / "tiny-kills", args.kill_scans, (5, 6, 7))
    bench.plain(model, folder, bench.state / "plain-kills")
    wanted, chance = of_folder(bench.state / "plain-kills"), random.Random(0)
    done: Counter[str] = Counter()
    half = runs = 0
    bucket = bench.bucket(folder)
    with faulty(bench.port, 0.05) as (address, faults):
        while sum(done.values()) < args.kills:
            kind = ("actor", "raylet", "driver")[sum(done.values()) % 3]
            child, runs = bench.start(*bench.words(model, bucket), endpoint=address), runs + 1
            while child.poll() is None and not claims(bench, bucket):
                time.sleep(0.1)
            while child.poll() is None and sum(done.values()) < args.kills:
                kind = ("actor", "raylet", "driver")[sum(done.values()) % 3]
                time.sleep(chance.uniform(0.1, 4.0))
                pid = victim(kind, child, chance)
                if pid is None:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    done[kind] += 1
            child.wait()
            kept = bench.results(bucket)
            half += sum(kept[name] != wanted.get(name) for name in kept)
            if len(kept) == len(wanted) and sum(done.values()) < args.kills:
                bucket = bench.bucket(folder)
        last = bench.start(*bench.words(model, bucket), "--retry-aside", endpoint=address)
        assert last.wait() == 0, shown_by(last)[-3000:]
    found = bench.results(bucket)
    records = bench.client.find(f"{bucket}/out/.resvox/done")
    bench.keep("kills", {
        "kills": dict(done), "runs": runs, "scans": len(wanted), "half": half, "lost": len(set(wanted) - set(found)),
        "different": sum(found[name] != wanted[name] for name in found), "records": len(records),
        "claims_left": claims(bench, bucket), "faults": dict(faults),
    })  # fmt: skip


def shards(bench: Bench, args: argparse.Namespace) -> None:
    """Seven parts, two of them killed and run again."""
    model = make_model(bench.state / "tiny.safetensors", roi=8)
    folder = make_scans(bench.state / "tiny-shards", args.shard_scans, (5, 6, 7))
    bench.plain(model, folder, bench.state / "plain-shards")
    bucket = bench.bucket(folder)
    words = ("predict", model, f"s3://{bucket}/all.jsonl", "-o", f"s3://{bucket}/out", *ENGINE)
    counts, cut = [], 0
    for part in range(1, 8):
        before = len(bench.results(bucket))
        child = bench.start(*words, "--shard", f"{part}/7")
        if part in (2, 5):
            while child.poll() is None and bench.count(bucket) < before + 3:
                time.sleep(0.01)
            child.kill()
            child.wait()
            cut += len(bench.results(bucket)) - before
        else:
            assert child.wait() == 0, shown_by(child)[-3000:]
            counts.append(len(bench.results(bucket)) - before)
    missing = len(of_folder(bench.state / "plain-shards")) - len(bench.results(bucket))
    for part in (2, 5):
        bench.run(*words, "--shard", f"{part}/7")
    bench.keep("shards", {
        "scans": args.shard_scans, "whole_parts": counts, "done_by_the_killed": cut,
        "missing_before_the_rerun": missing,
        "equal": bench.results(bucket) == of_folder(bench.state / "plain-shards"),
    })  # fmt: skip
