"""PyTorch's side of store.ts: measures torch.distributed.TCPStore, one line of JSON for each line `what count`.

Client and server are in this process, the server on its own thread, as ours is in a Worker.
"""

import json
import sys
import time
from datetime import timedelta

import torch.distributed as dist

store = dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=60), wait_for_workers=False)


def set_get():
    store.set("key", "value")
    store.get("key")


def get():
    store.get("key")


def add():
    store.add("counter", 1)


calls = {"one_set_get": set_get, "one_get": get, "one_add": add}


def latency(call, count):
    samples = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - began)
    return sorted(samples)[count // 2] / 1000


def each(call):
    def run(keys):
        for key in keys:
            call(key)

    return run


floods = {
    "set": each(lambda key: store.set(key, "value")),
    "get": each(lambda key: store.get(key)),
    "add": each(lambda key: store.add("counter", 1)),
    "multi_set": lambda keys: store.multi_set(keys, keys),
    "multi_get": lambda keys: store.multi_get(keys),
}


def rate(flood, count):
    keys = [f"key {i}" for i in range(count)]
    began = time.perf_counter()
    floods[flood](keys)
    # A call without a reply is complete when the next call has its reply.
    store.num_keys()
    return count / (time.perf_counter() - began)


store.set("key", "value")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    what, count = line.split()
    value = latency(calls[what], int(count)) if what in calls else rate(what, int(count))
    print(json.dumps({"value": value}), flush=True)
