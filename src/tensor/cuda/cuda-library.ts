import { dlopen } from "bun:ffi";
import { existsSync } from "node:fs";
import { environmentText } from "../../environment/index.ts";
import { BackendUnavailableError, messageOf, shortageOf } from "../../errors/index.ts";
import { untrustedOwnerAt, writableByAnyoneAt } from "../../files/index.ts";
import { type DriverSymbols, declarations } from "./driver-symbols.ts";

/** The driver's library, loaded. */
export interface CudaLibrary {
  /** Its path, or its name if the dynamic loader found it. */
  readonly path: string;
  readonly symbols: DriverSymbols;
}

/** Every installation of the driver has it under this name. */
const SONAME = "libcuda.so.1";
/** Where it is if the loader does not know it: in WSL 2, and in containers of Kubernetes' device plugin. */
const folders = ["/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"];
const RTLD_NOW = 2;

const REMEDY =
  "Install NVIDIA's driver; in a container, start it with --gpus all. C10D_CUDA_LIBRARY names the file if it is elsewhere";

let loaded: CudaLibrary | undefined;

/**
 * Loads the driver's library, once per thread: the file in `C10D_CUDA_LIBRARY`, else libcuda.so.1 by the dynamic loader,
 * else from the folders of WSL and of containers. Later `dlopen("libcuda.so.1")` in this process give the same library.
 *
 * @throws BackendUnavailableError: `NO_CUDA_DRIVER` saying where it looked, `UNTRUSTED_LIBRARY` for a file that another
 *   user may have put there.
 */
export function loadCudaLibrary(): CudaLibrary {
  loaded ??= find();
  return loaded;
}

function find(): CudaLibrary {
  const named = environmentText("C10D_CUDA_LIBRARY");
  if (named !== undefined) {
    if (!existsSync(named)) {
      throw new BackendUnavailableError(
        `CUDA: ${named}, which C10D_CUDA_LIBRARY names, does not exist\nCorrect the variable, or unset it to use the driver's own library.`,
        { code: "NO_CUDA_DRIVER" },
      );
    }
    requireTrust(named, writableByAnyoneAt(named), "remove that permission (chmod o-w)");
    return open(named);
  }
  const tried: string[] = [];
  const reason = absenceByLoader();
  if (reason === undefined) return open(SONAME);
  tried.push(reason);
  for (const folder of folders) {
    const path = `${folder}/${SONAME}`;
    if (!existsSync(path)) {
      tried.push(`${path} (absent)`);
      continue;
    }
    requireTrust(path, untrustedOwnerAt(path), "check who owns it; if you trust it, set C10D_CUDA_LIBRARY to it");
    return open(path);
  }
  throw unavailable(["the driver's library was not found. Looked at:", ...tried.map((each) => `  ${each}`)].join("\n"));
}

/**
 * Has the dynamic loader load the library; returns why it cannot. Not by `dlopen` of `bun:ffi`, which would also look in
 * the current folder, where anybody may have put one.
 */
function absenceByLoader(): string | undefined {
  try {
    const { symbols } = dlopen("libc.so.6", {
      dlopen: { args: ["ptr", "i32"], returns: "ptr" },
      dlerror: { args: [], returns: "cstring" },
    });
    if (symbols.dlopen(Buffer.from(`${SONAME}\0`), RTLD_NOW) !== null) return undefined;
    return String(symbols.dlerror());
  } catch (error) {
    return `${SONAME}: ${messageOf(error)}`;
  }
}

function open(path: string): CudaLibrary {
  try {
    return { path, symbols: dlopen(path, declarations).symbols as unknown as DriverSymbols };
  } catch (cause) {
    const shortage = shortageOf(cause);
    throw unavailable(`cannot load ${path}: ${shortage?.text ?? messageOf(cause)}`, shortage?.code, cause);
  }
}

function requireTrust(path: string, reason: string | undefined, remedy: string): void {
  if (reason === undefined) return;
  throw new BackendUnavailableError(`CUDA: ${path} is not loaded, since ${reason}: ${remedy}`, {
    code: "UNTRUSTED_LIBRARY",
  });
}

function unavailable(reason: string, code = "NO_CUDA_DRIVER", cause?: unknown): BackendUnavailableError {
  return new BackendUnavailableError(`CUDA: ${reason}\n${REMEDY}.`, { code, cause });
}
