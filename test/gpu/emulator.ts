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
