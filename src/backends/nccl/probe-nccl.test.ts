import { describe, expect, test } from "bun:test";
import { BackendUnavailableError } from "../../errors/index.ts";
import type { Shim } from "../../native/index.ts";
import type { CudaProbe } from "../../tensor/cuda/index.ts";
import { loadNccl, NCCL_REMEDY } from "./nccl-library.ts";
import { type NcclParts, probeNccl } from "./probe-nccl.ts";

const device = { name: "NVIDIA H200", totalMemory: 2 ** 37, computeCapability: [9, 0] as const };
const cuda: CudaProbe = {
  available: true,
  library: "/usr/lib/libcuda.so.1",
  driverVersion: "13.0",
  devices: [
    { ...device, index: 0 },
    { ...device, index: 1 },
  ],
};
const parts: NcclParts = {
  cuda: () => cuda,
  library: () => ({ path: "/opt/libnccl.so.2", version: 23007 }),
  shim: () => ({ path: "/opt/libc10d_nccl.so", abi: 2 }) as Shim,
};
const fails = (message: string) => () => {
  throw new BackendUnavailableError(message, { backend: "nccl" });
};

describe("what `c10d info` says of nccl", () => {
  test("all is there", () => {
    expect(probeNccl(undefined, parts)).toEqual({
      available: true,
      version: "NCCL 2.30.7",
      library: { path: "/opt/libc10d_nccl.so", abi: 2 },
      detail: "/opt/libnccl.so.2, CUDA 13.0, 2 × NVIDIA H200",
    });
  });

  test("an emulator is named", () => {
    const library = () => ({ path: "/opt/libnccl.so.2", version: 22203, emulator: "NCCL emulator 2.22.3" });
    expect(probeNccl(undefined, { ...parts, library })).toMatchObject({
      version: "NCCL emulator 2.22.3",
      detail: "/opt/libnccl.so.2 (an emulator, for tests: no GPU), CUDA 13.0, 2 × NVIDIA H200",
    });
  });

  test("the library is that of the options, if they name one", () => {
    const asked: (string | undefined)[] = [];
    const library = (option: string | undefined) => {
      asked.push(option);
      return parts.library(option);
    };
    probeNccl("/mine/libnccl.so.2", { ...parts, library });
    expect(asked).toEqual(["/mine/libnccl.so.2"]);
  });

  test("no driver", () => {
    const none = { available: false, reason: "the driver's library was not found", remedy: "Install it.", devices: [] };
    expect(probeNccl(undefined, { ...parts, cuda: () => none, library: fails("not asked") })).toEqual({
      available: false,
      reason: "ProcessGroupNCCL is only supported with GPUs, no GPUs found! the driver's library was not found",
      remedy: "Install it.",
    });
  });

  test("a driver without a device, with CUDA's error", () => {
    const reason = "cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)";
    const none = { available: false, reason, code: "NO_CUDA_DEVICE", devices: [] };
    expect(probeNccl(undefined, { ...parts, cuda: () => none })).toMatchObject({
      reason: `ProcessGroupNCCL is only supported with GPUs, no GPUs found! ${reason}`,
      remedy: expect.stringContaining("CUDA_VISIBLE_DEVICES"),
    });
  });

  test.each(["libnccl.so.2 was not found. Looked at: …", "/opt/libnccl.so.2 is NCCL 2.17.0, which is too old"])(
    "no NCCL that can be used: %s",
    (reason) => {
      expect(probeNccl(undefined, { ...parts, library: fails(reason) })).toEqual({
        available: false,
        reason,
        remedy: NCCL_REMEDY,
      });
    },
  );

  test("no NCCL where the user says that it is: that is to be corrected, not installed", () => {
    expect(probeNccl("/no/libnccl.so.2", { ...parts, library: loadNccl })).toEqual({
      available: false,
      reason: 'backend "nccl": there is no /no/libnccl.so.2, which options.library names',
      remedy: "Correct the path, or leave it out: then NCCL is looked for.",
    });
  });

  test("no shim", () => {
    const answer = probeNccl(undefined, { ...parts, shim: fails("no shim found") });
    expect(answer).toMatchObject({
      available: false,
      reason: "no shim found",
      remedy: expect.stringContaining("bun c10d build"),
    });
  });

  test("an error of another kind is not hidden", () => {
    const broken = () => {
      throw new TypeError("a bug");
    };
    expect(() => probeNccl(undefined, { ...parts, library: broken })).toThrow("a bug");
  });
});
