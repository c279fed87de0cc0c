// What there is on this machine. Fails only if the machine cannot be asked at all.
import { cpus, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { emulatedPython } from "../emulator.ts";
import { runPart } from "../part.ts";

/** What machine.py prints. */
interface PythonFound {
  readonly python: string;
  readonly path: string;
  readonly torch?: string;
  readonly cuda?: string | null;
  readonly available?: boolean;
  readonly devices?: readonly string[];
  readonly nccl?: string;
  readonly library?: string | null;
  readonly missing?: string;
}

const root = fileURLToPath(new URL("../../..", import.meta.url));
const pythons = ["python3", `${root}.tools/torch/bin/python`, "/opt/torch/.venv/bin/python3"];
const chosen = process.env.C10D_TORCH_PYTHON;

/** Commands that may start a Python with PyTorch. */
function candidates(emulator: boolean): readonly (readonly string[])[] {
  const newest = process.env.C10D_TORCH_214_PYTHON || `${root}.tools/torch-2.14/bin/python`;
  if (emulator) return [emulatedPython(newest)];
  return [...(chosen ? [chosen] : []), ...pythons].map((path) => [path]);
}

/** Output of a command, if it can be had in time. The first import of PyTorch on a machine can take a minute. */
function ask(...command: readonly string[]): string | undefined {
  try {
    const { stdout, success } = Bun.spawnSync([...command], { stdout: "pipe", stderr: "ignore", timeout: 70_000 });
    return success ? stdout.toString().trim() : undefined;
  } catch {
    return undefined;
  }
}

interface Python {
  readonly command: readonly string[];
  readonly found: PythonFound;
}

/** The first Python with a PyTorch that sees a GPU, else the first with PyTorch. */
function python(emulator: boolean): Python | undefined {
  let second: Python | undefined;
  for (const command of candidates(emulator)) {
    const text = ask(...command, fileURLToPath(new URL("machine.py", import.meta.url)));
    if (text === undefined) continue;
    const found = JSON.parse(text) as PythonFound;
    if (found.available === true) return { command, found };
    if (found.torch !== undefined) second ??= { command, found };
  }
  return second;
}

await runPart(({ emulator }) => {
  const gpus = ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total,pci.bus_id", "--format=csv,noheader");
  const { command, found } = python(emulator) ?? {};
  const gibibytes = (totalmem() / 2 ** 30).toFixed(0);
  const lines = [
    `${cpus().length} cores (${cpus()[0]?.model ?? "?"}), ${gibibytes} GiB, Linux ${release()}, ${ask("ldd", "--version")?.split("\n")[0] ?? "no ldd"}`,
    `Bun ${Bun.version}`,
    gpus === undefined ? "no nvidia-smi, or it finds no GPU" : `GPUs: ${gpus.replaceAll("\n", "; ")}`,
  ];
  if (found === undefined) lines.push("no Python with PyTorch");
  else {
    const build = found.cuda ? `for CUDA ${found.cuda}` : "for CPUs only";
    lines.push(`Python ${found.python} (${found.path}), PyTorch ${found.torch} ${build}`);
    if (found.nccl !== undefined) lines.push(`PyTorch's NCCL: ${found.nccl}`);
    if (found.available !== true) lines.push("PyTorch sees no GPU: parts that need it are skipped");
  }
  return {
    outcome: "passed",
    lines,
    figures: { gpus, python: found },
    facts: {
      ...(command !== undefined && { python: command }),
      ...(found?.available === true && found.torch !== undefined && { torchOnGpu: found.torch }),
      ...(!emulator && found?.library && { library: found.library }),
    },
  };
});
