"""Devices, precision and processes, by Lightning Fabric."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from lightning_fabric.strategies import DDPStrategy

from resvox.errors import PlanError
from resvox.machine import usable_threads
from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.fields import AUGMENT_ON
from resvox.training.plans.precision import Precision

LARGE_SAMPLE = 32**3  # voxels


def make_fabric(
    plan: TrainingPlan, *, devices: int | str, num_nodes: int, accelerator: str, precision: str | None
) -> Fabric:
    """A Fabric for one process, for several spawned ones, or for those that `torchrun` has started.

    Args:
        devices: processes on this machine, or "auto": one for each GPU, one on a CPU.
        num_nodes: machines, on each of which torchrun or srun has started this program.
        accelerator: "auto" takes CUDA, else the CPU; others by name as in Fabric.

    Raises:
        PlanError: a batch that the processes cannot share evenly, or an unknown precision.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    is_cuda = accelerator in ("cuda", "gpu")
    if is_cuda:
        check_cuda()
    if devices == "auto":
        devices = torch.cuda.device_count() if is_cuda else 1
    elastic = "TORCHELASTIC_RUN_ID" in os.environ  # started by torchrun, which sets the number of processes
    if elastic:
        devices, num_nodes = _elastic_layout(num_nodes)
    if is_cuda and int(devices) > torch.cuda.device_count():
        raise PlanError(
            f"{devices} processes on {torch.cuda.device_count()} GPUs",
            expected="at most one process per GPU",
            fix=f"--processes {torch.cuda.device_count()}",
        )
    total = int(devices) * num_nodes
    if plan.batch_size % total:
        raise PlanError(
            f"batch_size={plan.batch_size} over {total} processes",
            expected="a batch that they share evenly",
            fix=f"set batch_size to {-(-plan.batch_size // total) * total}",
        )
    environment = _environment(total, num_nodes, elastic=elastic)
    # Spawned processes run the loop alone; running the user's script again in each would read all data anew.
    strategy = "auto" if total == 1 else ("ddp_spawn" if isinstance(environment, OwnProcesses) else "ddp")
    quiet_libraries()
    return Fabric(
        plugins=[environment],
        accelerator=accelerator,
        devices=int(devices),
        num_nodes=num_nodes,
        strategy=strategy,
        precision=choose_precision(precision or plan.precision, is_cuda=is_cuda).value,  # type: ignore[arg-type]
    )


def _elastic_layout(asked: int) -> tuple[int, int]:
    """Processes on this machine and machines, as torchrun has started them.

    Raises:
        PlanError: another number of machines was asked for, or they have different numbers of processes.
    """
    total, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    machines = int(os.environ.get("GROUP_WORLD_SIZE") or -(-total // local))
    if total != local * machines:
        raise PlanError(
            f"{total} processes on {machines} machines, {local} of them here",
            expected="as many on each machine",
            fix="the same --nproc-per-node for torchrun on each",
        )
    if asked not in (1, machines):
        raise PlanError(
            f"num_nodes={asked} under torchrun with {machines} machines",
            expected="the number that torchrun was given",
            fix=f"leave --num-nodes out, or torchrun --nnodes {asked}",
        )
    return local, machines


def machines_of(fabric: Fabric) -> int:
    """On how many machines the processes of a Fabric run."""
    return fabric.strategy.num_nodes if isinstance(fabric.strategy, DDPStrategy) else 1


class OwnProcesses(LightningEnvironment):
    """Processes that this one spawns on this machine, whatever a batch system or a script has left in the environment.

    `LightningEnvironment` takes LOCAL_RANK, NODE_RANK, MASTER_ADDR and MASTER_PORT as orders; scripts export them for
    other programs, and a port in use ended the run.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a spawned process receives this before Fabric connects it
        self.__dict__.update(state)
        quiet_libraries()

    @property
    def creates_processes_externally(self) -> bool:
        """No: they are spawned."""
        return False

    @property
    def main_address(self) -> str:
        """The name of this machine."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """A free port, chosen once and handed to the spawned processes."""
        if self._main_port == -1:
            self._main_port = find_free_network_port()
        return self._main_port

    def local_rank(self) -> int:
        """The number that the launcher gives each spawned process; 0 for the one that spawns."""
        return int(os.environ["LOCAL_RANK"]) if multiprocessing.parent_process() is not None else 0

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def _environment(total: int, machines: int, *, elastic: bool) -> ClusterEnvironment:
    """Who starts the processes: torchrun, srun, or this process, which can do so on one machine.

    Slurm's variables are everywhere in a job. Only those of a step of several tasks mean that srun has started several
    copies of this program.

    Raises:
        PlanError: srun has started another number of copies than are to train together, or several machines are to
            train and no launcher has started this program on them.
    """
    if elastic:
        return TorchElasticEnvironment()
    copies = int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    if copies == 1 and machines > 1:
        raise PlanError(
            f"num_nodes={machines}, and this program was started on one machine",
            expected="a launcher that starts it on each: torchrun or srun",
            fix=f"on each machine: torchrun --nnodes {machines} --nproc-per-node {total // machines} "
            "--rdzv-backend c10d --rdzv-id NAME --rdzv-endpoint FIRST_MACHINE:29400 -m resvox train ...",
        )
    if copies == 1:
        return OwnProcesses()
    if copies != total:
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES") or 1)
        several = f"--num-nodes {nodes} " if nodes > 1 else ""
        raise PlanError(
            f"srun has started {copies} copies of a training of {total} processes",
            expected="one copy, or as many as there are processes",
            fix=f"srun -n 1 resvox train ..., or {several}--processes {copies // nodes}",
        )
    return SLURMEnvironment()


def check_cuda() -> None:
    """Check that there is a GPU to train on.

    Raises:
        PlanError: PyTorch finds none.
    """
    if not torch.cuda.is_available():
        built = "is built without CUDA" if torch.version.cuda is None else "finds no GPU or driver"
        raise PlanError(
            f"device='cuda', and PyTorch {torch.__version__} {built}",
            expected="a GPU with its driver, and PyTorch with CUDA",
            fix="--device cpu, or look at nvidia-smi and https://pytorch.org/get-started",
        )


def choose_workers(workers: int | str | None, *, processes: int, is_cuda: bool) -> int:
    """How many processes cut and augment patches, for each process that trains.

    Args:
        workers: a number, or "auto": on a GPU what is left of the processor's cores, at most 8; on a CPU, whose cores
            compute anyway, one where there are two or more for each process. None: "auto" on a GPU, which would wait
            for a single process, and 0 on a CPU.
        processes: that train together on this machine.

    Raises:
        PlanError: neither "auto" nor a number of at least 0.
    """
    if workers is None:
        workers = "auto" if is_cuda else 0
    if workers == "auto":
        cores = usable_threads() // processes
        return max(0, min(8, cores - 1)) if is_cuda else min(1, cores // 2)
    if not isinstance(workers, int) or workers < 0:
        raise PlanError(f"workers={workers!r}", expected='"auto", or a number of at least 0')
    return workers


def augments_on_device(choice: str, plan: TrainingPlan, device: str) -> bool:
    """Whether patches are augmented on the device that trains, in place of the processor that cuts them.

    Args:
        choice: "processor", "device", or "auto": on the device where that is a GPU and samples are large: resampling
            and smoothing a patch of 112 cubed takes a core longer than a training step takes a GPU, and for small
            samples starting kernels would take longer than computing.
        device: the type of the device.

    Raises:
        PlanError: another word.
    """
    if choice not in AUGMENT_ON:
        raise PlanError(f"augment_on={choice!r}", expected=f"one of {', '.join(AUGMENT_ON)}")
    if choice == "auto":
        return device == "cuda" and math.prod(plan.sample_size) >= LARGE_SAMPLE
    return choice == "device"


@contextmanager
def fastest_convolutions(device: torch.device) -> Iterator[None]:
    """On a GPU try several algorithms for each convolution and keep the fastest: all patches have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def quiet_libraries() -> None:
    """Keep Fabric's and PyTorch's own lines on processes and precision off the terminal; their errors stay."""
    for name in (
        "lightning_fabric",
        "lightning.fabric",
        "lightning",
        "torch.distributed",
        "torch.nn.parallel",
        "torch.multiprocessing",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning(_fabric|\.fabric)?\b")
    # DDP's remark on 1x1x1 convolutions in channels-last memory
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")


def choose_precision(precision: str, *, is_cuda: bool) -> Precision:
    """The precision; of "auto", bfloat16 on a GPU that computes in it, else float32."""
    words = [each.value for each in Precision]
    if precision not in words:
        raise PlanError(f"precision={precision!r}", expected=f"one of {', '.join(words)}")
    chosen = Precision(precision)
    if chosen is not Precision.auto:
        return chosen
    has_bfloat16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision.bfloat16 if has_bfloat16 else Precision.float32
