"""The Dockerfile and the recipes for Slurm and Kubernetes: their steps, run with stand-ins where there is no engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from resvox.fleet.shards import Shard

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
ADDRESSES = ("s3://models/liver.safetensors", "s3://scans/all.parquet", "s3://results/liver")


def instructions():
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    return [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_container_is_not_root_and_starts_resvox():
    found = instructions()
    assert [word for word, _ in found if word == "USER"] == ["USER"]
    user = next(place for place, (word, _) in enumerate(found) if word == "USER")
    assert dict(found)["USER"] == "resvox"
    assert all(word not in ("RUN", "COPY", "ADD") for word, _ in found[user:])
    assert json.loads(dict(found)["ENTRYPOINT"]) == ["resvox"]
    assert {"/models", "/scratch"} <= set(json.loads(dict(found)["VOLUME"]))
    assert any("RESVOX_SCRATCH=/scratch" in rest for word, rest in found if word == "ENV")


def test_what_it_copies_is_there_and_in_the_context():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name.rstrip("/").removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    assert copied == kept
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_its_extras_exist_and_its_image_is_pinned():
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert set(arguments["EXTRAS"].split(",")) <= EXTRAS
    assert all(":" in rest.split()[0] for word, rest in instructions() if word == "FROM")
    assert "TORCH_INDEX_URL" in arguments


def test_each_run_step_is_a_shell_command_that_parses():
    for word, rest in instructions():
        if word == "RUN":
            done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True)
            assert done.returncode == 0, rest + done.stderr


def run_batch(name, tmp_path, *, calls, words=ADDRESSES, srun_code=0, **variables):
    """Run a batch file with stand-ins that write down how they are called; it exits with the code of srun."""
    log = tmp_path / "calls"
    for program in ("srun", "ray", "resvox", "scontrol", "sleep"):
        noted = f'echo {program} "$@" >> {log}'
        nodes = f'if [ "$1" = requeue ]; then {noted}; else echo node1; echo node2; fi'
        body = {"scontrol": nodes, "sleep": ":", "srun": f"{noted}; exit {srun_code}"}.get(program, noted)
        (tmp_path / program).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / name), *words], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == srun_code, done.stderr
    deadline = time.monotonic() + 30  # what runs in the background may write after the end
    while len(log.read_text().splitlines()) < calls and time.monotonic() < deadline:
        time.sleep(0.05)
    return log.read_text().splitlines()


def test_the_array_of_slurm(tmp_path):
    (call,) = run_batch("slurm-array.sbatch", tmp_path, calls=1, SLURM_CPUS_PER_TASK="8")
    assert call == (
        "srun --kill-on-bad-exit=1 resvox predict s3://models/liver.safetensors s3://scans/all.parquet "
        "-o s3://results/liver --scratch-gb 50"
    )


@pytest.mark.parametrize("nodes", [1, 3])
def test_ray_on_slurm(tmp_path, nodes):
    expected = 3 if nodes > 1 else 2
    calls = run_batch(
        "slurm-ray.sbatch", tmp_path, calls=expected, SLURM_CPUS_PER_TASK="16", SLURM_JOB_NODELIST="n[1-3]",
        SLURM_GPUS_ON_NODE="1", SLURM_JOB_NUM_NODES=str(nodes),
    )  # fmt: skip
    assert len(calls) == expected
    assert sum("ray start --head" in call for call in calls) == 1
    assert sum("--nodes=2" in call and "ray start --address=node1:6379" in call for call in calls) == int(nodes > 1)
    assert any("resvox predict" in call and "--cluster ray --cluster-address node1:6379" in call for call in calls)


def test_the_job_of_kubernetes():
    job = yaml.safe_load((ROOT / "deploy/kubernetes-job.yaml").read_text(encoding="utf-8"))["spec"]
    (container,) = job["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert variables["RESVOX_SHARDS"] == str(job["completions"])
    last, note = Shard.of_environment({**variables, "JOB_COMPLETION_INDEX": str(job["completions"] - 1)})
    assert (last.index, note) == (job["completions"], "")
    assert job["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert container["args"][0] == "predict"


def test_the_training_on_slurm_goes_on_from_a_checkpoint(tmp_path):
    words, run = ("data", str(tmp_path / "run")), tmp_path / "run"
    variables = {"SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4(x2)"}
    (call,) = run_batch("slurm-train.sbatch", tmp_path, calls=1, words=words, **variables)
    begins = f"srun --kill-on-bad-exit=1 resvox train data -o {run} --num-nodes 2 --processes 4 --workers auto"
    assert call.strip() == begins
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.pt").touch()
    (tmp_path / "calls").unlink()
    (call,) = run_batch("slurm-train.sbatch", tmp_path, calls=1, words=words, **variables)
    assert call == f"{begins} --resume"


@pytest.mark.parametrize(("code", "requeues"), [(75, 1), (1, 0)])
def test_a_training_on_slurm_that_can_go_on_is_put_back_into_the_queue(tmp_path, code, requeues):
    variables = {"SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    words = ("data", str(tmp_path / "run"))
    _, *rest = run_batch(
        "slurm-train.sbatch",
        tmp_path,
        calls=1 + requeues,
        words=words,
        srun_code=code,
        SLURM_JOB_ID="4711",
        **variables,
    )
    assert rest == ["scontrol requeue 4711"] * requeues


def test_the_training_on_kubernetes(tmp_path):
    service, job = yaml.safe_load_all((ROOT / "deploy/kubernetes-train.yaml").read_text(encoding="utf-8"))
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    (tmp_path / "torchrun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": "1"},
    )  # fmt: skip
    words = done.stdout.split()
    launched = dict(zip(words[: words.index("-m") : 2], words[1 : words.index("-m") : 2], strict=True))
    assert launched["--nnodes"] == str(job["spec"]["completions"])
    assert launched["--node-rank"] == "1"
    assert launched["--master-addr"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(launched["--nproc-per-node"])
    assert words[words.index("-m") :][:3] == ["-m", "resvox", "train"]


def test_the_values_of_kuberay():
    values = yaml.safe_load((ROOT / "deploy/kuberay-values.yaml").read_text(encoding="utf-8"))
    assert values["head"]["rayStartParams"]["num-cpus"] == "0"
    assert values["worker"]["maxReplicas"] >= values["worker"]["minReplicas"]
    mounts = {each["mountPath"] for each in values["worker"]["volumeMounts"]}
    assert {each["value"] for each in values["worker"]["containerEnv"] if each["name"] == "RESVOX_SCRATCH"} <= mounts
    for group in (values["head"], values["worker"], *values["additionalWorkerGroups"].values()):
        variables = {each["name"]: each for each in group["containerEnv"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "resvox-ray", "key": "token"}
