"""A rank of the mixed communicator: the steps of ../exchange.ts with torch.distributed.

mixed-rank.py DEVICE: cuda:0 and so on, by NCCL, or cpu, by Gloo; rank, size and store as env:// has them. Prints one line for each step, ends with 1 if one failed.
"""

import datetime
import os
import sys

import torch
import torch.distributed as dist

COUNT = 1001
device = torch.device(sys.argv[1])
on_gpu = device.type == "cuda"
if on_gpu:
    torch.cuda.set_device(device)
dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(seconds=40))
rank, size = dist.get_rank(), dist.get_world_size()
peer = 1 - rank
failed = False


def values(of, count=COUNT, dtype=torch.float32, start=0):
    """What a rank contributes: (1 .. 7) times its number, counted from one."""
    return ((torch.arange(start, start + count) % 7 + 1) * (of + 1)).to(dtype).to(device)


def check(step, tensor, expected):
    global failed
    if on_gpu:
        torch.cuda.synchronize()
    good = torch.equal(tensor, expected)
    failed = failed or not good
    print(f"{'ok' if good else 'WRONG'} {step}", flush=True)
    if not good:
        print(f"  {tensor[:8].tolist()}, expected {expected[:8].tolist()}", flush=True)


everyone = range(size)
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8):
    tensor = values(rank, dtype=dtype)
    dist.all_reduce(tensor)
    check(f"all-reduce {str(dtype).split('.')[-1]}", tensor, sum(values(r, dtype=dtype) for r in everyone))

tensor = values(rank)
dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
check("all-reduce MAX", tensor, values(size - 1))

if on_gpu:  # Gloo has no averages.
    tensor = values(rank)
    dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
    check("all-reduce AVG", tensor, sum(values(r) for r in everyone) / size)

for root in everyone:
    tensor = values(rank)
    dist.broadcast(tensor, src=root)
    check(f"broadcast from {root}", tensor, values(root))

for root in everyone:
    tensor = values(rank)
    dist.reduce(tensor, dst=root)
    if rank == root:
        check(f"reduce to {root}", tensor, sum(values(r) for r in everyone))

gathered = torch.zeros(size * COUNT, device=device)
dist.all_gather_into_tensor(gathered, values(rank))
check("all-gather into one tensor", gathered, torch.cat([values(r) for r in everyone]))

parts = [torch.zeros(COUNT, device=device) for _ in everyone]
dist.all_gather(parts, values(rank))
check("all-gather of a list", torch.cat(parts), torch.cat([values(r) for r in everyone]))

for root in everyone:
    parts = [torch.zeros(COUNT, device=device) for _ in everyone] if rank == root else None
    dist.gather(values(rank), parts, dst=root)
    if rank == root:
        check(f"gather to {root}", torch.cat(parts), torch.cat([values(r) for r in everyone]))

for root in everyone:
    part = torch.zeros(COUNT, device=device)
    dist.scatter(part, [values(root, start=r) for r in everyone] if rank == root else None, src=root)
    check(f"scatter from {root}", part, values(root, start=rank))

part = torch.zeros(COUNT, device=device)
dist.reduce_scatter_tensor(part, values(rank, size * COUNT))
check("reduce-scatter", part, sum(values(r, COUNT, start=rank * COUNT) for r in everyone))

received = torch.zeros(size * COUNT, device=device)
dist.all_to_all_single(received, values(rank, size * COUNT))
check("all-to-all", received, torch.cat([values(r, COUNT, start=rank * COUNT) for r in everyone]))

for sender in everyone:
    tensor = values(rank)
    dist.send(tensor, dst=peer) if rank == sender else dist.recv(tensor, src=peer)
    check(f"message from {sender}", tensor, values(sender))

dist.barrier()
print("ok barrier", flush=True)
if on_gpu:
    torch.cuda.synchronize()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(1 if failed else 0)  # without PyTorch's own end, which is not the subject
