import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../build/release/nccl-emulator", import.meta.url));

/** Has a process use the emulator of CUDA and NCCL, which `./bootstrap build` makes, in place of the machine's. */
export function emulatorEnvironment(): Record<string, string> {
  return {
    C10D_CUDA_LIBRARY: `${folder}/libcuda.so.1`,
    C10D_NCCL_LIBRARY: `${folder}/libnccl.so.2`,
    NCCL_EMULATOR_DEVICES: "2",
  };
}

/**
 * Command for a Python with PyTorch for CUDA whose libraries for CUDA and NCCL are the emulator's; see
 * ../nccl-emulator/runtime/README.md.
 */
export function emulatedPython(path: string): readonly string[] {
  const libraries = ["libcuda.so.1", "libemulated_cudart.so", "libnccl.so.2"].map((name) => `${folder}/${name}`);
  return ["env", `LD_PRELOAD=${libraries.join(":")}`, path];
}
