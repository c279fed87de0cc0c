"""The counterpart of bun-rank.ts in PyTorch: a rank that reads jobs from its standard input."""

import gc
import json
import sys
import time

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
RANK = dist.get_rank()
SIZE = dist.get_world_size()


def all_reduce(whole, part):
    dist.all_reduce(whole)


def broadcast(whole, part):
    dist.broadcast(whole, src=0)


def all_gather(whole, part):
    dist.all_gather_into_tensor(whole, part)


def reduce_scatter(whole, part):
    dist.reduce_scatter_tensor(part, whole)


def all_to_all(whole, other):
    dist.all_to_all_single(other, whole)


def barrier(whole, part):
    dist.barrier()


def ping_pong(whole, part):
    if RANK == 0:
        dist.send(whole, dst=1)
        dist.recv(whole, src=1)
    else:
        dist.recv(whole, src=0)
        dist.send(whole, dst=0)


OPS = {
    "all-reduce": all_reduce,
    "broadcast": broadcast,
    "all-gather": all_gather,
    "reduce-scatter": reduce_scatter,
    "all-to-all": all_to_all,
    "barrier": barrier,
    "ping-pong": ping_pong,
}


def run(name, size, warm_up, iterations, count):
    op = OPS[name]
    length = max(size // 4, SIZE if name in ("all-gather", "reduce-scatter", "all-to-all") else 1)
    part = length if name == "all-to-all" else max(length // SIZE, 1)
    pairs = [(torch.zeros(length), torch.zeros(part)) for _ in range(count)]
    taken = []
    for i in range(warm_up + iterations):
        whole, rest = pairs[i % count]
        mark = i % 1000
        if name == "all-reduce":
            whole[0] = whole[-1] = mark + RANK
        begin = time.perf_counter_ns()
        op(whole, rest)
        end = time.perf_counter_ns()
        if name == "all-reduce":
            expected = mark * SIZE + SIZE * (SIZE - 1) // 2
            if whole[0] != expected or whole[-1] != expected:
                raise RuntimeError(f"wrong sum in iteration {i}")
        if i >= warm_up:
            taken.append((end - begin) / 1000)
    return taken


print(json.dumps({"ready": True, "version": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    _mode, name, *numbers = line.split()
    gc.collect()
    print(json.dumps({"micros": run(name, *map(int, numbers))}), flush=True)
dist.destroy_process_group()
