"""Times collectives of torch.distributed as ../timing.ts does with the library's.

bandwidth.py DEVICE SECONDS SIZES: on cuda:0 and so on, by NCCL, or on cpu, by Gloo; rank, size and store as env:// has
them. SIZES are bytes, separated by commas. Rank 0 prints a JSON list of {op, bytes, us}.
"""

import datetime
import json
import os
import sys
import time

import torch
import torch.distributed as dist

device = torch.device(sys.argv[1])
on_gpu = device.type == "cuda"
limit = float(sys.argv[2])
sizes = [int(size) for size in sys.argv[3].split(",")]
if on_gpu:
    torch.cuda.set_device(device)
dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(seconds=60))
rank, size = dist.get_rank(), dist.get_world_size()


def synchronize():
    if on_gpu:
        torch.cuda.synchronize()


def floats(count):
    return torch.ones(max(count, 1), device=device)


def all_reduce(count):
    tensor = floats(count)
    return lambda: dist.all_reduce(tensor)


def broadcast(count):
    tensor = floats(count)
    return lambda: dist.broadcast(tensor, src=0)


def all_gather(count):
    each = max(count // size, 1)
    output, tensor = floats(each * size), floats(each)
    return lambda: dist.all_gather_into_tensor(output, tensor)


def reduce_scatter(count):
    each = max(count // size, 1)
    output, tensor = floats(each), floats(each * size)
    return lambda: dist.reduce_scatter_tensor(output, tensor)


ops = {"allReduce": all_reduce, "allGather": all_gather, "reduceScatter": reduce_scatter, "broadcast": broadcast}


def seconds(call, count):
    synchronize()
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize()
    return time.perf_counter() - start


def agreed(value):
    """The largest value of any rank, so that all make the same number of calls."""
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.item()


results = []
for name, make in ops.items():
    for nbytes in sizes:
        call = make(nbytes // 4)
        seconds(call, 2)
        once = agreed(seconds(call, 3) / 3)
        count = min(200, max(3, int(limit / len(sizes) / len(ops) / max(once, 1e-7))))
        results.append({"op": name, "bytes": nbytes, "us": agreed(seconds(call, count) / count) * 1e6})
if rank == 0:
    print(json.dumps(results), flush=True)
synchronize()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)
