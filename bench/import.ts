/**
 * The cost of starting: `import "bun-c10d"` compared with bare Bun, and the first all-reduce of 2 ranks from the start
 * of their processes (env://, gloo, the store hosted here as by `c10d run`). Whole processes, in turns.
 *
 *     bun bench/import.ts [--rounds 15] [--json]
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TCPStoreServer } from "../src/store/index.ts";
import { rankEnv } from "./harness/rank-env.ts";
import { median } from "./harness/samples.ts";

export interface ImportTimes {
  /** Milliseconds of whole processes, in the order of the rounds. */
  readonly bare: readonly number[];
  readonly importing: readonly number[];
  /** Median over the rounds of the difference. */
  readonly extra: number;
}

const WORLD_SIZE = 2;
const program = (name: string): string => fileURLToPath(new URL(`ranks/${name}.ts`, import.meta.url));

/** Runs a process that imports a package, ours unless another is named, and one that imports nothing, in turns. */
export function measureImport(rounds: number, imported: "import-only" | "import-effect" = "import-only"): ImportTimes {
  const bare: number[] = [];
  const importing: number[] = [];
  processTime(imported); // From now on the files are in the page cache.
  for (let round = 0; round < rounds; round++) {
    const turns = [() => bare.push(processTime("empty")), () => importing.push(processTime(imported))];
    for (const turn of round % 2 === 0 ? turns : turns.toReversed()) turn();
  }
  return { bare, importing, extra: median(importing.map((each, round) => each - (bare[round] ?? Number.NaN))) };
}

function processTime(name: string): number {
  const begin = performance.now();
  const { exitCode, stderr } = Bun.spawnSync({ cmd: [process.execPath, program(name)], timeout: 10_000 });
  const end = performance.now();
  if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}: ${stderr}`);
  return end - begin;
}

/** Milliseconds from the start of 2 processes to the end of their first all-reduce, of the slower rank. */
export async function measureFirstAllReduce(rounds: number): Promise<number[]> {
  const taken: number[] = [];
  for (let round = 0; round < rounds; round++) taken.push(await firstAllReduce());
  return taken;
}

async function firstAllReduce(): Promise<number> {
  const server = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
  const begin = performance.timeOrigin + performance.now();
  const ranks = Array.from({ length: WORLD_SIZE }, (_, rank) =>
    Bun.spawn({
      cmd: [process.execPath, program("first-allreduce")],
      env: { ...process.env, NO_COLOR: "1", ...rankEnv(rank, WORLD_SIZE, server.port) },
      timeout: 30_000,
      stdout: "pipe",
      stderr: "inherit",
    }),
  );
  try {
    const ends = await Promise.all(
      ranks.map(async (rank) => {
        const text = await new Response(rank.stdout).text();
        const exitCode = await rank.exited;
        if (exitCode !== 0) throw new Error(`a rank ended with ${exitCode}`);
        return Number(text);
      }),
    );
    return Math.max(...ends) - begin;
  } finally {
    await server.close();
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { rounds: { type: "string", default: "15" }, json: { type: "boolean", default: false } },
  });
  const imports = measureImport(Number(values.rounds));
  const first = await measureFirstAllReduce(Number(values.rounds));
  if (values.json) console.log(JSON.stringify({ ...imports, first }));
  else {
    const show = (samples: readonly number[]): string =>
      `${median(samples).toFixed(0)} ms (least ${Math.min(...samples).toFixed(0)} ms)`;
    console.log(`bare Bun               ${show(imports.bare)}`);
    console.log(`import "bun-c10d"      ${show(imports.importing)}, ${imports.extra.toFixed(0)} ms more`);
    console.log(`first all-reduce       ${show(first)} from the start of 2 ranks`);
  }
}
