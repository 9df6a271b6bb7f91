"""What two processes compute together is what one computes of the whole batch: norms, losses and their gradients."""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from resvox.blueprint import Blueprint
from resvox.errors import LostPeerError, PlanError, ResvoxError
from resvox.factory import create_model
from resvox.locks import Claims
from resvox.training import loop, read_dataset
from resvox.training.distributed import links
from resvox.training.distributed import peers as peers_module
from resvox.training.distributed.links import Link, lines_of
from resvox.training.distributed.norms import share_batch_norms, too_few_values
from resvox.training.distributed.peers import Peers, is_of_a_lost_peer
from resvox.training.losses import SegmentationLoss
from resvox.training.processes import machines_of, make_fabric
from resvox.training.run_folder import LOCK
from resvox.training.segmentation.losses import MaskedLabelLoss, RegionLoss
from resvox.workflow import train

# a mean that is large beside the variance, where sums in float32 would lose the digits
IMAGES = 30 + torch.linspace(-2, 3, 4 * 2 * 3 * 4 * 5).sin().reshape(4, 2, 3, 4, 5)
# samples that differ in what they hold, so that the mean of two halves is not the whole
LABELS = (torch.arange(4 * 3 * 4 * 5).reshape(4, 3, 4, 5) % torch.tensor([2, 3, 5, 7]).reshape(4, 1, 1, 1)).clamp(max=2)


def network(processes: int) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3), nn.ReLU(), nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))
    if processes > 1:
        assert share_batch_norms(module, torch.device("cpu")) == 2
    return module


def losses():
    labels = LABELS.clone()
    labels[0, 0] = -1
    known = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    members = [[False, False], [True, False], [True, True]]
    return {
        "dice_ce": (SegmentationLoss("dice_ce"), LABELS, None),
        "dice_of_each": (SegmentationLoss("dice_ce", batch_dice=False), LABELS, None),
        "smoothed": (SegmentationLoss("dice_ce", label_smoothing=0.1), LABELS, None),
        "masked": (MaskedLabelLoss("dice_ce"), labels, known),
        "regions": (RegionLoss("dice_ce", members), labels, known),
    }


def computed(share: slice, processes: int):
    """Loss, gradients and running statistics of each loss, as the processes together have them."""
    found = {}
    for name, (loss, labels, known) in losses().items():
        module = network(processes).train()
        more = () if known is None else (known[share],)
        logits = module(IMAGES[share])
        value = loss(logits[:, :2] if name == "regions" else logits, labels[share], *more)
        value.backward()
        tensors = [value.detach().clone(), *(each.grad for each in module.parameters())]
        if processes > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= processes
        found[name] = [*tensors, *(each.float() for each in module.buffers())]
    return found


def together(rank: int, port: int, out: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    found = computed(slice(2 * rank, 2 * rank + 2), 2)
    if rank == 0:
        torch.save(found, out)
    distributed.barrier()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo by TCP is not built for Windows")
def test_norms_and_losses_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(together, (port, str(tmp_path / "found.pt")), nprocs=2)
    shared, whole = torch.load(tmp_path / "found.pt"), computed(slice(None), 1)
    # float32 sums in another order; the gradient of a bias before a batch norm is 0 up to rounding
    for name, wanted in whole.items():
        for one, other in zip(shared[name], wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_shared_norms_keep_tensors_names_and_modes():
    module = network(1)
    module[4].eval()
    before = dict(module.state_dict(keep_vars=True))
    share_batch_norms(module, torch.device("cpu"))
    after = module.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is tensor for name, tensor in before.items())
    assert [module[1].training, module[4].training] == [True, False]


def test_few_values_per_channel_are_found():
    module = create_model("unet", encoder_name="resnet10", spatial_dims=3, in_channels=1, norm="batch").train()
    blueprint: Blueprint = module.blueprint
    assert too_few_values(module, blueprint, 2, (32, 32, 32)) == ("encoder.layer4.0.bn1", 2)
    assert too_few_values(module, blueprint, 4, (32, 32, 32)) is None
    assert too_few_values(module.eval(), blueprint, 2, (32, 32, 32)) is None
    other = create_model("unet", encoder_name="resnet10", spatial_dims=3, in_channels=1, norm="instance").train()
    assert too_few_values(other, other.blueprint, 1, (32, 32, 32)) is None


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("variables", "asked", "message"),
    [
        ({}, 2, r"num_nodes=2, and this program was started on one machine; .*torchrun --nnodes 2 --nproc-per-node 1 "),
        (TORCHRUN, 3, r"num_nodes=3 under torchrun with 2 machines; .*--nnodes 3"),
        ({**TORCHRUN, "WORLD_SIZE": "6"}, 1, r"6 processes on 2 machines, 4 of them here; .*as many on each"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, 1, r"srun has .* --num-nodes 2 --processes 4$"),
    ],
)
def test_launchers_that_do_not_fit_are_refused_with_the_way_on(tiny_plan, monkeypatch, variables, asked, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PlanError, match=message):
        make_fabric(
            tiny_plan.with_changes(batch_size=24), devices=1, num_nodes=asked, accelerator="cpu", precision=None
        )


def test_torchrun_says_how_many_there_are(tiny_plan, monkeypatch):
    for name, value in {**TORCHRUN, "RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric(
        tiny_plan.with_changes(batch_size=8), devices=1, num_nodes=2, accelerator="cpu", precision=None
    )
    assert (fabric.world_size, machines_of(fabric)) == (8, 2)


def test_the_threads_of_a_machine_are_shared_by_its_own_processes(tiny_plan, folder_of, tmp_path, monkeypatch):
    for name, value in {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "OMP_NUM_THREADS": "8"}.items():
        monkeypatch.setenv(name, value)
    jobs = []
    monkeypatch.setattr(
        loop,
        "launched",
        lambda fabric, train, run: jobs.append(train.keywords["job"]) or {"best": {}, "history": [], "seconds": 0},
    )
    plan = tiny_plan.with_changes(batch_size=8)
    loop.fit(read_dataset(folder_of()), plan, tmp_path / "run", accelerator="cpu", workers="auto", num_nodes=2)
    assert (jobs[0].machines, jobs[0].workers) == (2, 1)  # 2 of 8 threads for each of 4 processes here


def test_folds_are_not_spread_over_machines(tmp_path):
    with pytest.raises(PlanError, match=r"folds=5 with num_nodes=2; .*--fold N"):
        train(tmp_path, tmp_path / "run", folds=5, num_nodes=2)


class Heard:
    def __init__(self):
        self.reasons = []

    def __call__(self, reason, *, is_silent):
        self.reasons.append((reason, is_silent))


def waited(link):
    link.reading.join(20)
    return link.lost.reasons


def test_a_machine_that_is_silent_is_lost_and_one_that_says_goodbye_is_not():
    one, other = socket.socketpair()
    silent = Link(one, lines_of(one), "process 1 on node2", 0.2, Heard())
    assert waited(silent) == [("process 1 on node2 has been silent for 0.2 s", True)]
    other.close()
    for last, wanted in (("done", []), ("failed process 1 on node2 has ended: no disk", ["has ended: no disk"])):
        one, other = socket.socketpair()
        ends = [Link(side, lines_of(side), "process 1 on node2", 20.0, Heard()) for side in (one, other)]
        ends[0].close(last)
        assert [reason.endswith(end) for (reason, _), end in zip(waited(ends[1]), wanted, strict=True)] == [True] * len(
            wanted
        )
    one, other = socket.socketpair()
    closed = Link(one, lines_of(one), "process 1 on node2", 20.0, Heard())
    other.close()
    assert waited(closed) == [("process 1 on node2 has ended", False)]


def test_an_error_of_the_connections_is_one_line_and_others_are_not_touched(tmp_path):
    peers = Peers(None, machines=2, run=tmp_path)
    peers.reason, peers.keep = "process 1 on node2 has ended: no disk", lambda: "the checkpoint of step 7 is written"
    gloo = RuntimeError("[pair.cc:553] Connection closed by peer [10.0.0.2]:4711. This is typical")
    assert is_of_a_lost_peer(gloo)
    wanted = r"no disk; the checkpoint of step 7 is written; .*--resume"
    with pytest.raises(LostPeerError, match=wanted), peers.naming_the_lost():
        raise gloo
    peers = Peers(None, machines=2, run=tmp_path)
    other = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"), peers.naming_the_lost():
        raise other


def fabrics(count):
    """Those of processes that are threads: what the first one broadcasts reaches the others."""
    told = queue.Queue()

    def broadcast(rank, value):
        if rank:
            return told.get(timeout=20)
        for _ in range(count - 1):
            told.put(value)
        return value

    environment = SimpleNamespace(main_address="127.0.0.1")
    return [
        SimpleNamespace(
            global_rank=rank, local_rank=rank, world_size=count, is_global_zero=rank == 0,
            broadcast=lambda value, rank=rank: broadcast(rank, value),
            strategy=SimpleNamespace(cluster_environment=environment), device=torch.device("cpu"),
        )
        for rank in range(count)
    ]  # fmt: skip


def test_foreign_connections_take_no_place_and_stop_nothing(monkeypatch):
    monkeypatch.setattr(links, "GREETING_SECONDS", 0.3)
    first, second = fabrics(2)
    made, foreign = [], []

    def visited(value):
        for word in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe process 1 on node7\n"):
            visitor = socket.create_connection(("127.0.0.1", value[0]))
            visitor.sendall(word)
            foreign.append(visitor)
        return plain(value)

    plain, first.broadcast = first.broadcast, visited
    heard = Heard()
    threads = [threading.Thread(target=lambda: made.extend(links.connect(first, 20.0, heard)), daemon=True)]
    threads.append(threading.Thread(target=lambda: foreign.extend(links.connect(second, 20.0, heard)), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    (link,) = made
    assert link.name == f"process 1 on {socket.gethostname()}"
    assert heard.reasons == []
    for each in (*made, foreign.pop()):
        each.close("done")


def test_processes_that_do_not_connect_are_one_line_with_the_way_on(monkeypatch):
    monkeypatch.setattr(links, "CONNECT_SECONDS", 0.2)
    first, *_ = fabrics(3)
    wanted = r"2 of 2 processes did not connect to .*:\d+ within 0 s; expected machines that reach .*docs/scale\.md"
    with pytest.raises(ResvoxError, match=wanted):
        links.connect(first, 20.0, Heard())


@pytest.mark.parametrize("first_knows", [True, False], ids=["both lose one", "one loses its connection"])
def test_the_others_end_after_the_first_process_which_writes_the_checkpoint(tmp_path, monkeypatch, first_knows):
    """Where one process of a machine fails, its launcher ends all of them: also the one that still writes."""
    monkeypatch.setattr(peers_module, "NAMING_SECONDS", 0.2)
    fabric, ends, reasons = fabrics(2), [], {}

    def keep():
        time.sleep(1)
        ends.append("written")
        return "the checkpoint of step 7 is written"

    def run(rank):
        peers = Peers(fabric[rank], machines=2, run=tmp_path)
        if rank == 0:
            peers.keep = keep
        with pytest.raises(LostPeerError) as raised, peers, peers.naming_the_lost():
            lose_one(peers if rank == 0 and not first_knows else None)
        reasons[rank] = str(raised.value)
        ends.append(rank)

    def lose_one(waiting):
        assert waiting is None or waiting._named.wait(20)
        raise RuntimeError("Connection closed by peer [10.0.0.2]:4711")

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(str, ends)) == ["0", "1", "written"]
    assert ends[0] == "written"
    assert "checkpoint of step 7 is written" in reasons[0]
    if not first_knows:
        assert f"process 1 on {socket.gethostname()} has lost its connection" in reasons[0]


def test_the_lock_is_held_until_the_checkpoint_is_written(folder_of, tiny_plan, tmp_path, monkeypatch):
    free = []

    def fail(fabric, job, display, guard, peers):
        def keep():
            with Claims(job.run.path) as claims:
                free.append(claims.beat_of(LOCK) is None)
            return "the checkpoint of step 7 is written"

        peers.is_active, peers.keep = True, keep
        raise RuntimeError("Connection closed by peer [10.0.0.2]:4711")

    monkeypatch.setattr(loop, "_locked_train", fail)
    monkeypatch.setattr(peers_module, "NAMING_SECONDS", 0.0)
    with pytest.raises(LostPeerError):
        loop.fit(read_dataset(folder_of()), tiny_plan, tmp_path / "run", accelerator="cpu", progress=False)
    assert free == [False]
