import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../build/release/nccl-emulator", import.meta.url));

/**
 * Has a process use the emulator of CUDA and NCCL, which `./bootstrap build` makes, in place of the machine's. Another
 * release or number of devices is taken from the environment.
 */
export function emulatorEnvironment() {
  return {
    C10D_CUDA_LIBRARY: `${folder}/libcuda.so.1`,
    C10D_NCCL_LIBRARY: process.env.C10D_NCCL_LIBRARY || `${folder}/libnccl.so.2`,
    NCCL_EMULATOR_DEVICES: process.env.NCCL_EMULATOR_DEVICES || "2",
  };
}

/**
 * Command for a Python with PyTorch for CUDA whose libraries for CUDA and NCCL are the emulator's; see
 * ../nccl-emulator/runtime/README.md.
 */
export function emulatedPython(path: string): readonly string[] {
  const { C10D_CUDA_LIBRARY: cuda, C10D_NCCL_LIBRARY: nccl } = emulatorEnvironment();
  const libraries = [cuda, `${folder}/libemulated_cudart.so`, nccl];
  return ["env", `LD_PRELOAD=${libraries.join(":")}`, path];
}
