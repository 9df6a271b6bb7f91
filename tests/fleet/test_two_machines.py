"""Two machines: training with torchrun and predictions with Ray, also when the cable between them is cut.

Slow: `make test-fleet`. The machines are network namespaces; where the kernel permits none, the reason is the message.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fleet.namespaces import two_machines, why_not
from fleet.store import SERVER
from fleet.test_predict_addresses import local_results, scans
from fleet.test_ray import KEYS, command, finished
from training.conftest import write_folder

import resvox
from resvox.training import Plan
from resvox.training.logs import read_metrics

pytestmark = pytest.mark.fleet
SOURCE = Path(resvox.__file__).resolve().parents[1]
LOST_SECONDS = 6
TOLERANCE = 1e-2  # of the loss: a value that is 0 up to rounding may be on the other side of a ReLU
NUMBERS = """
import json, os, sys
import resvox.training.loop as loop
from resvox.workflow import train

place = sys.argv[1]

def note(report):
    with open(f"{place}.{report.rank}", "a") as file:
        file.write(json.dumps([report.step, report.numbers, report.cases]) + chr(10))

own = loop.fit
import resvox.training
resvox.training.fit = lambda *words, on_step=None, **more: own(*words, on_step=note, **more)
sys.argv = ["resvox", *sys.argv[2:]]
from resvox.cli import main
main()
"""


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data", ids=[f"s{number}" for number in range(6)])


@pytest.fixture
def plan(tmp_path):
    def make(**changes):
        made = Plan(
            num_classes=3, encoder="resnet10", encoder_depth=2, decoder_filters=(8, 8), strides=(2, 2, 1, 1, 1),
            norm="batch", spacing_mm=(2.0, 1.0, 1.0), normalization=({"kind": "window", "low": -100.0, "high": 400.0},),
            patch_size=(8, 8, 8), batch_size=4, augmentation="light", steps=24, warmup_steps=0, validation_interval=12,
            checkpoint_interval=1000, optimizer="sgd", learning_rate=0.01, **changes,
        )  # fmt: skip
        return made.save(tmp_path / "plan.yaml")

    return make


@pytest.fixture(scope="module")
def namespaces():
    """The tests need network namespaces; asked here, since the answer creates and deletes one."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def machines(namespaces):
    with two_machines() as found:
        yield found


def environment(tmp_path, **more):
    paths = f"{SOURCE}{os.pathsep}{SOURCE.parent / 'drop-in/src'}"
    return {
        **os.environ, **KEYS, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RESVOX_SCRATCH": f"{tmp_path}/scratch",
        "RESVOX_LOST_SECONDS": str(LOST_SECONDS), "RESVOX_CACHE": f"{tmp_path}/cache", **more,
    }  # fmt: skip


def train_words(tmp_path, data, run, plan, *more):
    (tmp_path / "noting.py").write_text(NUMBERS)
    words = ("train", data, "-o", tmp_path / run, "--device", "cpu", *more)
    given = () if "--resume" in more else ("--plan", plan)
    return (tmp_path / "noting.py", tmp_path / f"{run}.numbers", *words, *given)


def torchrun(machines, tmp_path, data, run, plan, *more):
    """Start a training, a process on each machine; their logs are RUN.0.log and RUN.1.log."""
    children = []
    for rank, machine in enumerate(machines):
        launcher = (
            sys.executable, "-m", "torch.distributed.run", "--nnodes", 2, "--node-rank", rank, "--nproc-per-node", 1,
            "--master-addr", machines[0].address, "--master-port", 29400,
        )  # fmt: skip
        log = (tmp_path / f"{run}.{rank}.log").open("w")
        children.append(
            machine.start(
                *launcher, *train_words(tmp_path, data, run, plan, "--num-nodes", 2, *more), stdout=log, stderr=log,
                env=environment(tmp_path, GLOO_SOCKET_IFNAME=machine.cable),
            )
        )  # fmt: skip
    return children


def on_one(tmp_path, data, run, plan, *more):
    words = [sys.executable, *map(str, train_words(tmp_path, data, run, plan, *more))]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def logs(tmp_path, run):
    return [(tmp_path / f"{run}.{rank}.log").read_text() for rank in (0, 1)]


def curve(tmp_path, run):
    return [row["loss"] for row in read_metrics(tmp_path / run / "metrics.csv")]


def samples(tmp_path, run):
    """The samples of each step over all processes."""
    found = {}
    for path in sorted(tmp_path.glob(f"{run}.numbers.*")):
        for line in path.read_text().splitlines():
            step, numbers, cases = json.loads(line)
            found[step] = found.get(step, []) + list(zip(numbers, cases, strict=True))
    return found


def test_two_machines_train_as_one_process_does(machines, data, plan, tmp_path):
    children = torchrun(machines, tmp_path, data, "two", plan())
    assert [child.wait(400) for child in children] == [0, 0], logs(tmp_path, "two")
    on_one(tmp_path, data, "one", plan())
    assert samples(tmp_path, "two") == samples(tmp_path, "one")
    assert len(samples(tmp_path, "two")) == 24
    assert curve(tmp_path, "two")[:2] == pytest.approx(curve(tmp_path, "one")[:2], rel=1e-6)
    assert curve(tmp_path, "two") == pytest.approx(curve(tmp_path, "one"), rel=TOLERANCE)
    print(f"\nlargest difference of the loss: {largest_difference(tmp_path, 'two', 'one'):.1e}")
    assert (tmp_path / "two/model.safetensors").is_file()


def largest_difference(tmp_path, one, other):
    return max(abs(a - b) for a, b in zip(curve(tmp_path, one), curve(tmp_path, other), strict=True))


def test_a_cut_cable_ends_the_training_with_one_line_and_a_checkpoint_for_another_number(
    machines, data, plan, tmp_path
):
    path = plan()
    long = Plan.load(path).with_changes(steps=4000, validation_interval=4000, decay="constant").save(path)
    children = torchrun(machines, tmp_path, data, "cut", long)
    metrics = tmp_path / "cut/metrics.csv"
    deadline = time.monotonic() + 300
    while len(read_metrics(metrics)) < 20:
        assert all(child.poll() is None for child in children), logs(tmp_path, "cut")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    machines[0].cut()
    began = time.monotonic()
    ended = [child.wait(120) for child in children]
    print(f"\nended {time.monotonic() - began:.1f} s after the cut")
    first, second = logs(tmp_path, "cut")
    assert ended == [1, 1], first + second
    for log, other in ((first, machines[1].name), (second, machines[0].address)):
        (line,) = [line for line in log.splitlines() if line.startswith("error: ")]
        assert other in line
        assert f"silent for {LOST_SECONDS} s; the " in line
        assert "--resume goes on" in line
    kept = len(curve(tmp_path, "cut"))
    assert f"checkpoint of step {kept} is written" in first
    for suffix in (".numbers.0", ".numbers.1"):
        (tmp_path / f"cut{suffix}").unlink()
    on_one_for(tmp_path, data, "cut", kept + 10)
    short = Plan.load(long).with_changes(steps=kept + 10).save(tmp_path / "short.yaml")
    on_one(tmp_path, data, "whole", short)
    assert samples(tmp_path, "cut").keys() >= set(range(kept + 1, kept + 10))
    assert curve(tmp_path, "cut")[: kept + 10] == pytest.approx(curve(tmp_path, "whole"), rel=TOLERANCE)


def on_one_for(tmp_path, data, run, steps):
    """Resume a run in one process until it has that many steps, and stop it there."""
    words = [sys.executable, *map(str, train_words(tmp_path, data, run, None, "--resume"))]
    child = subprocess.Popen(
        words, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 300
    while len(read_metrics(tmp_path / run / "metrics.csv")) < steps:
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.terminate()
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 75, out


def test_ray_on_two_machines_gives_the_results_of_one(machines, make_model, tmp_path):
    folder = scans(tmp_path / "in", 40)
    words = ("predict", make_model(), folder, "-o", tmp_path / "plain", "--engine", "torch-plain")
    finished(command(words, tmp_path=tmp_path, endpoint="http://127.0.0.1:9"))
    first, second = machines
    endpoint = f"http://{first.address}:5000"
    open_to_all = environment(tmp_path, AWS_ENDPOINT_URL=endpoint)
    settings = {**open_to_all, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    quiet = {"env": settings, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first.start(sys.executable, "-c", SERVER, "-H", first.address, "-p", 5000, **quiet)
    place = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # names of sockets are short; no address is left in Ray's own
    head = ("--head", "--port", 6379, "--include-dashboard", "false", "--temp-dir", place)
    start_ray(first, tmp_path, settings, *head)
    (tmp_path / "fill.py").write_text(FILL)
    filled = first.start(sys.executable, tmp_path / "fill.py", folder, env=settings, stdout=subprocess.PIPE)
    assert filled.wait(120) == 0, filled.stdout.read()
    time.sleep(5)
    start_ray(second, tmp_path, settings, "--address", f"{first.address}:6379")
    (tmp_path / "wait.py").write_text(WAIT)
    waiting = first.start(
        sys.executable, tmp_path / "wait.py", first.address, env=settings, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert waiting.wait(120) == 0, waiting.stdout.read()
    words = (
        sys.executable, "-c", "from resvox.cli import main; main()", "predict", make_model(), "s3://bucket/all.jsonl",
        "-o", "s3://bucket/out", "--engine", "torch-plain", "--cluster", "ray",
        "--cluster-address", f"{first.address}:6379", "--workers", 2,
    )  # fmt: skip
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    other = first.start(*words, env={**open_to_all, "RAY_AUTH_MODE": "disabled"}, **captured)
    _, refused = other.communicate(timeout=120)
    assert other.returncode == 1, refused
    assert "error: no cluster of Ray at " in refused
    assert "RAY_AUTH_TOKEN" in refused
    finished(first.start(*words, env=settings, **captured))
    (tmp_path / "bring.py").write_text(COPY)
    copied = first.start(sys.executable, tmp_path / "bring.py", tmp_path / "ray", env=settings, stdout=subprocess.PIPE)
    assert copied.wait(120) == 0, copied.stdout.read()
    assert local_results(tmp_path / "ray") == local_results(tmp_path / "plain")
    for machine in machines:  # an actor has started on both
        assert (tmp_path / f"scratch-{machine.name}").is_dir()


def start_ray(machine, tmp_path, settings, *words):
    """Ray on a machine, with a scratch of its own."""
    ray = (Path(sys.executable).with_name("ray"), "start", "--num-cpus", 1, "--disable-usage-stats", "--block")
    own = {**settings, "RESVOX_SCRATCH": str(tmp_path / f"scratch-{machine.name}")}
    log = (tmp_path / f"ray-{machine.name}.log").open("w")
    machine.start(*ray, "--node-ip-address", machine.address, *words, env=own, stdout=log, stderr=log)


FILL = """
import json, pathlib, sys, time
import s3fs
store = s3fs.S3FileSystem()
for _ in range(200):
    try:
        store.mkdir("bucket")
        break
    except Exception:
        time.sleep(0.3)
rows = []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    store.pipe_file(f"bucket/scans/{path.name}", path.read_bytes())
    rows.append({"id": path.name.removesuffix(".nii.gz"), "uri": f"scans/{path.name}"})
store.pipe_file("bucket/all.jsonl", "".join(json.dumps(row) + chr(10) for row in rows).encode())
"""
WAIT = """
import sys, time
import ray
deadline = time.monotonic() + 90
while True:
    try:
        ray.init(address=f"{sys.argv[1]}:6379", log_to_driver=False)
        break
    except Exception:
        if time.monotonic() > deadline:
            raise
        time.sleep(1)
while len([node for node in ray.nodes() if node["Alive"]]) < 2:
    assert time.monotonic() < deadline, ray.nodes()
    time.sleep(0.5)
"""
COPY = """
import pathlib, sys
import s3fs
store, out = s3fs.S3FileSystem(), pathlib.Path(sys.argv[1])
out.mkdir()
for path in store.find("bucket/out"):
    if "/.resvox/" not in path:
        (out / path.rpartition("/")[2]).write_bytes(store.cat_file(path))
"""
