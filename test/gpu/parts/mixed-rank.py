"""A rank of the mixed communicator: the steps of ../exchange.ts with torch.distributed.

mixed-rank.py DEVICE [WORD...]: cuda:0 and so on, by NCCL, or cpu, by Gloo. Words: needs of steps that are left out; eager, to
bind the group to the device. Rank, size and store are those of env://. Prints a line for each step, ends with 1 if one failed.
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
bound = device if "eager" in sys.argv[2:] else None
dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(seconds=40), device_id=bound)
rank, size = dist.get_rank(), dist.get_world_size()
peer = 1 - rank
failed = False


def values(of, count=COUNT, dtype=torch.float32, start=0):
    """What a rank contributes: (1 .. 7) times its number, counted from one."""
    return ((torch.arange(start, start + count) % 7 + 1) * (of + 1)).to(dtype)


def own(count=COUNT, dtype=torch.float32, start=0):
    """The same of this rank, on its device."""
    return values(rank, count, dtype, start).to(device)


def zeros(count=COUNT):
    return torch.zeros(count).to(device)


def check(step, tensor, expected):
    global failed
    if on_gpu:
        torch.cuda.synchronize()
    tensor = tensor.cpu()  # all arithmetic is on the host: that of the device is not the subject
    good = torch.equal(tensor, expected)
    failed = failed or not good
    print(f"{'ok' if good else 'WRONG'} {step}", flush=True)
    if not good:
        print(f"  {tensor[:8].tolist()}, expected {expected[:8].tolist()}", flush=True)


everyone = range(size)


def total(count=COUNT, start=0, dtype=torch.float32):
    return sum(values(r, count, dtype, start) for r in everyone)


for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8):
    tensor = own(dtype=dtype)
    dist.all_reduce(tensor)
    check(f"all-reduce {str(dtype).split('.')[-1]}", tensor, total(dtype=dtype))

tensor = own()
dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
check("all-reduce MAX", tensor, values(size - 1))

if on_gpu:
    tensor = own()
    dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
    check("all-reduce AVG", tensor, total() / size)
    tensor = own()
    dist.all_reduce(tensor, op=dist._make_nccl_premul_sum(0.5))
    check("all-reduce PREMUL_SUM", tensor, total() / 2)
    tensor = torch.tensor([rank == 0 and i % 2 == 1 for i in range(4)]).to(device)
    dist.all_reduce(tensor)
    check("all-reduce bool", tensor, torch.tensor([False, True, False, True]))
    tensor = torch.view_as_complex(values(rank, 2 * COUNT).view(COUNT, 2)).to(device)
    dist.all_reduce(tensor)
    check("all-reduce complex64", tensor, torch.view_as_complex(total(2 * COUNT).view(COUNT, 2)))

    tensors = [own(10), own(20)]
    dist.all_reduce_coalesced(tensors)
    for i, tensor in enumerate(tensors):
        check(f"all-reduce of a list, {i}", tensor, total(10 + 10 * i))

for root in everyone:
    tensor = own()
    dist.broadcast(tensor, src=root)
    check(f"broadcast from {root}", tensor, values(root))

for root in everyone:
    tensor = own()
    dist.reduce(tensor, dst=root)
    if rank == root:
        check(f"reduce to {root}", tensor, total())

gathered = zeros(size * COUNT)
dist.all_gather_into_tensor(gathered, own())
check("all-gather into one tensor", gathered, torch.cat([values(r) for r in everyone]))

parts = [zeros() for _ in everyone]
dist.all_gather(parts, own())
for r, part in enumerate(parts):
    check(f"all-gather of a list, {r}", part, values(r))

for root in everyone:
    parts = [zeros() for _ in everyone] if rank == root else None
    dist.gather(own(), parts, dst=root)
    for r, part in enumerate(parts or []):
        check(f"gather to {root}, {r}", part, values(r))

for root in everyone:
    part = zeros()
    dist.scatter(part, [own(start=r) for r in everyone] if rank == root else None, src=root)
    check(f"scatter from {root}", part, values(root, start=rank))

part = zeros()
dist.reduce_scatter_tensor(part, own(size * COUNT))
check("reduce-scatter", part, total(start=rank * COUNT))

if on_gpu:
    part = zeros(5 + rank)
    dist.reduce_scatter(part, [own(5 + r) for r in everyone])
    check("reduce-scatter of unequal parts", part, total(5 + rank))

if "exchange" not in sys.argv[2:]:
    received = zeros(size * COUNT)
    dist.all_to_all_single(received, own(size * COUNT))
    check("all-to-all", received, torch.cat([values(r, COUNT, start=rank * COUNT) for r in everyone]))
    splits = [3 + r for r in everyone]  # rank r has 3 + s elements for rank s
    received = zeros(size * (3 + rank))
    dist.all_to_all_single(received, own(sum(splits)), [3 + rank] * size, splits)
    start = sum(splits[:rank])
    check("all-to-all of unequal parts", received, torch.cat([values(r, 3 + rank, start=start) for r in everyone]))

if "exchange" not in sys.argv[2:]:
    received = zeros()
    for work in dist.batch_isend_irecv([dist.P2POp(dist.isend, own(), peer), dist.P2POp(dist.irecv, received, peer)]):
        work.wait()
    check("messages that cross, in a batch", received, values(peer))

for sender in everyone:
    tensor = own()
    dist.send(tensor, dst=peer) if rank == sender else dist.recv(tensor, src=peer)
    check(f"message from {sender}", tensor, values(sender))

group = dist.new_group(list(everyone))
tensor = own()
dist.all_reduce(tensor, group=group)
check("all-reduce in another group", tensor, total())
dist.destroy_process_group(group)

dist.barrier()
print("ok barrier", flush=True)
if on_gpu:
    torch.cuda.synchronize()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(1 if failed else 0)  # without PyTorch's own end, which is not the subject
