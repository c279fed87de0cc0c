// What there is on this machine. Fails only if the machine cannot be asked at all.
import { existsSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
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
const pythons = [
  process.env.C10D_TORCH_PYTHON,
  "python3",
  `${root}.tools/torch/bin/python`,
  "/opt/torch/.venv/bin/python3",
];

/** Output of a command, if it can be had in time. The first import of PyTorch on a machine can take a minute. */
function ask(...command: readonly string[]): string | undefined {
  try {
    const { stdout, success } = Bun.spawnSync([...command], { stdout: "pipe", stderr: "ignore", timeout: 70_000 });
    return success ? stdout.toString().trim() : undefined;
  } catch {
    return undefined;
  }
}

/** The first Python with a PyTorch that sees a GPU, else the first with PyTorch. */
function python(): PythonFound | undefined {
  let second: PythonFound | undefined;
  for (const each of pythons) {
    if (!each || (each.startsWith("/") && !existsSync(each))) continue;
    const text = ask(each, fileURLToPath(new URL("machine.py", import.meta.url)));
    if (text === undefined) continue;
    const found = JSON.parse(text) as PythonFound;
    if (found.available === true) return found;
    if (found.torch !== undefined) second ??= found;
  }
  return second;
}

await runPart(({ emulator }) => {
  const gpus = ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total,pci.bus_id", "--format=csv,noheader");
  const found = python();
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
  const torch = found?.available === true && !emulator ? found : undefined;
  return {
    outcome: "passed",
    lines,
    figures: { gpus, python: found },
    facts: {
      ...(found === undefined ? {} : { python: found.path }),
      ...(torch?.torch === undefined ? {} : { torchOnGpu: torch.torch }),
      ...(emulator || !found?.library ? {} : { library: found.library }),
    },
  };
});
