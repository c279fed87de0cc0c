import { describe, expect, test } from "bun:test";
import fake from "../backends/fake/plugin.ts";
import { type Availability, type BackendPlugin, BackendRegistry, BackendType, systemClock } from "../registry/index.ts";
import { defaultBackend } from "./default-backend.ts";
import { DEFAULT_PG_NCCL_TIMEOUT, DEFAULT_PG_TIMEOUT, defaultTimeoutOf } from "./default-timeouts.ts";

const limit = { limitMs: 5_000, clock: systemClock };
const there = [new URL(import.meta.url).pathname];
const absent = ["/dev/there-is-no-such-file"];

/** A registry whose nccl answers so; counts how often it is asked. */
function registryWith(answer: Availability): { readonly registry: BackendRegistry; asked(): number } {
  let asked = 0;
  const plugin: BackendPlugin = {
    ...fake,
    name: "nccl",
    type: BackendType.NCCL,
    devices: ["cuda"],
    probe: async () => {
      asked++;
      return answer;
    },
  };
  const registry = new BackendRegistry([{ name: "nccl", load: async () => plugin }]);
  return { registry, asked: () => asked };
}

const available: Availability = { available: true, version: "2.30.7" };
const unavailable: Availability = { available: false, reason: "libnccl.so.2 was not found.", remedy: "Install NCCL." };

describe("the backend of a group for which none is named", () => {
  test("is Gloo where the machine shows no CUDA device, and nothing is loaded", async () => {
    const { registry, asked } = registryWith(available);
    const { backend, absent: reasons } = await defaultBackend(registry, limit, undefined, {}, absent);
    expect(backend).toBe("gloo");
    expect(reasons.get("cuda")).toBe(
      "this machine shows no CUDA device (there is no /dev/there-is-no-such-file); `c10d info` says what the nccl backend needs",
    );
    expect(asked()).toBe(0);
    expect(registry.isLoaded("nccl")).toBe(false);
  });

  test.each([
    ["a file of the driver", {}, there],
    ["C10D_CUDA_LIBRARY", { C10D_CUDA_LIBRARY: "/opt/libcuda.so.1" }, absent],
  ])("is NCCL for CUDA tensors where it can run: %s", async (_, environment, files) => {
    const { registry } = registryWith(available);
    const { backend, absent: reasons } = await defaultBackend(registry, limit, undefined, environment, files);
    expect(backend).toBe("cpu:gloo,cuda:nccl");
    expect(reasons.size).toBe(0);
  });

  test("is Gloo where NCCL cannot run, and says why", async () => {
    const { registry } = registryWith(unavailable);
    const { backend, absent: reasons } = await defaultBackend(registry, limit, undefined, {}, there);
    expect(backend).toBe("gloo");
    expect(reasons.get("cuda")).toBe("the nccl backend cannot run here: libnccl.so.2 was not found. Install NCCL.");
  });
});

test("the default time-out is that of c10d: 10 minutes for NCCL alone, else 30", () => {
  expect(DEFAULT_PG_NCCL_TIMEOUT).toBe(600_000);
  expect(DEFAULT_PG_TIMEOUT).toBe(1_800_000);
  expect(["nccl", " NCCL ", BackendType.NCCL].map(defaultTimeoutOf)).toEqual([600_000, 600_000, 600_000]);
  expect(["gloo", "cpu:gloo,cuda:nccl", undefined, BackendType.GLOO].map(defaultTimeoutOf)).toEqual(
    Array.from({ length: 4 }, () => 1_800_000),
  );
});
