"""The counterpart of ddp-rank.ts in PyTorch: DistributedDataParallel with given gradients."""

import gc
import json
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
RANK = dist.get_rank()
SIZE = dist.get_world_size()


class Given(torch.autograd.Function):
    """A loss whose gradients are what they are set to."""

    @staticmethod
    def forward(ctx, gradients, *parameters):
        ctx.gradients = gradients
        return torch.zeros(())

    @staticmethod
    def backward(ctx, _loss):
        return None, *ctx.gradients


class Model(torch.nn.Module):
    def __init__(self, layers, length):
        super().__init__()
        self.layers = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(length)) for _ in range(layers)])

    def forward(self, gradients):
        return Given.apply(gradients, *self.layers)


def run(job):
    length = job["bytes"] // 4 // job["layers"]
    ddp = DistributedDataParallel(Model(job["layers"], length), gradient_as_bucket_view=True)
    gradients = [torch.zeros(length) for _ in range(job["layers"])]
    taken = []
    for i in range(job["warmUp"] + job["iterations"]):
        mark = i % 1000
        dist.barrier()
        begin = time.perf_counter_ns()
        ddp.zero_grad(set_to_none=True)
        for gradient in gradients:
            gradient[0] = gradient[-1] = mark + RANK
        ddp(gradients).backward()
        end = time.perf_counter_ns()
        expected = mark + (SIZE - 1) / 2
        for parameter in ddp.parameters():
            if parameter.grad[0] != expected or parameter.grad[-1] != expected:
                raise RuntimeError(f"wrong average in iteration {i}")
        if i >= job["warmUp"]:
            taken.append((end - begin) / 1000)
    return taken


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    gc.collect()
    print(json.dumps({"micros": run(json.loads(line)), "hidden": []}), flush=True)
dist.destroy_process_group()
