"""A rank in PyTorch: `torch.nn.parallel.DistributedDataParallel` as everywhere, without any code of this package."""

import copy
import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler

POINTS, FEATURES, HIDDEN, CLASSES = 480, 6, 16, 3
EPOCHS = int(os.environ.get("EPOCHS", "4"))
BATCH = 12
LEARNING_RATE = 0.25
# Largest difference of two ranks' weights after any step, and of theirs from those of one process.
TOLERANCE = 1e-6


def make_points() -> tuple[torch.Tensor, torch.Tensor]:
    """The points of points.ts, and their classes."""
    rows = [[((n * (2 * i + 3) * 37) % 101) / 50 - 1 for i in range(FEATURES)] for n in range(POINTS)]
    points = torch.tensor(rows)
    a, b, c, d, e, f = points.double().unbind(1)
    return points, torch.stack([a + b, c - d, 2 * e * f], dim=1).argmax(dim=1)


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def difference_from_rank_0(model: torch.nn.Module) -> float:
    own = flat(model)
    theirs = own.clone()
    dist.broadcast(theirs, src=0)
    return (own - theirs).abs().max().item()


def main() -> None:
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1 + rank)
    torch.set_num_threads(1)
    points, classes = make_points()
    model = torch.nn.Sequential(torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES))
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=LEARNING_RATE)
    # One process that trains alone, with the batches of all ranks.
    alone = copy.deepcopy(model)
    alone_optimizer = torch.optim.SGD(alone.parameters(), lr=LEARNING_RATE)
    samplers = [DistributedSampler(range(POINTS), world_size, each, seed=3) for each in range(world_size)]
    largest, from_alone, steps = 0.0, 0.0, 0

    for epoch in range(EPOCHS):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shards = [torch.tensor(list(sampler)) for sampler in samplers]
        total = 0.0
        for batches in zip(*(shard.split(BATCH) for shard in shards), strict=True):
            own = batches[rank]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(ddp(points[own]), classes[own])
            loss.backward()
            optimizer.step()
            total += loss.item()
            largest = max(largest, difference_from_rank_0(model))

            everybody = torch.cat(batches)
            alone_optimizer.zero_grad()
            torch.nn.functional.cross_entropy(alone(points[everybody]), classes[everybody]).backward()
            alone_optimizer.step()
            from_alone = max(from_alone, (flat(model) - flat(alone)).abs().max().item())
            steps += 1
        mean = torch.tensor([total * BATCH / len(shards[rank]) / world_size], dtype=torch.float64)
        dist.all_reduce(mean)
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {mean.item():.4f}", flush=True)
    assert largest <= TOLERANCE, f"rank {rank}: a weight differs by {largest} from that of rank 0"
    assert from_alone <= TOLERANCE, f"rank {rank}: a weight differs by {from_alone} from that of one process"
    differences = torch.tensor([largest, from_alone], dtype=torch.float64)
    dist.all_reduce(differences, op=dist.ReduceOp.MAX)
    pythons = torch.tensor([1], dtype=torch.int32)
    dist.all_reduce(pythons)
    if rank == 0:
        print(f"{steps} steps by {pythons.item()} in PyTorch, {world_size - pythons.item()} in Bun")
        print(f"weights after every step: largest difference between ranks {differences[0]:.1e}, from one process {differences[1]:.1e}")
    dist.destroy_process_group()


main()
# PyTorch's threads abort the process now and then while the interpreter ends ("terminate called without an active exception").
sys.stdout.flush()
os._exit(0)
