import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildIfStale } from "../../examples/native-backend/build-if-stale.ts";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { describeMpi, launchWith } from "../../src/backends/mpi/fixtures/availability.ts";
import { implementations } from "../../src/backends/mpi/implementation.ts";
import { describeUcc, spawn } from "../../src/backends/ucc/fixtures/availability.ts";
import { type SpawnOptions, spawnRanks } from "../../src/testing/index.ts";
import type { Ending, PeerSide, WorkerEndArgs, WorkerSide } from "./fixtures/worker-end.ts";

setDefaultTimeout(300_000);

const ENDINGS: readonly Ending[] = ["terminate", "terminate in wait()", "throw", "exit", "natural end"];
/** 4 bytes, and a size that takes a while to send. */
const ELEMENTS = [1, 1_000_000] as const;
const FULL = process.env.C10D_SWEEP === "full";
/** Whether the peer blocks. */
const MODES = FULL ? [true, false] : [true];
const TIMES = FULL ? 10 : 1;
/** In the full sweep, concurrent tests would compete for the processors. */
const run = FULL ? test : test.concurrent;
/** Debian release of the libgloo that the tests use, if not this machine's. */
const generation = process.env.C10D_GENERATION;
/** A fraction of a second plus a margin for a busy machine; an op's own time-out is half an hour. */
const SOON_MS = 10_000;

/** Tests that need this machine's libraries. With those of another release, the MPIs and UCX would mix both. */
function ofThisMachine(backend: string, declare: () => void): void {
  if (generation === undefined) {
    declare();
    return;
  }
  const reason = `only gloo is of ${generation}`;
  console.log(`skip a Worker that ends with ops in flight, over ${backend}: ${reason}`);
  describe.skip(`a Worker that ends with ops in flight, over ${backend} (skipped: ${reason})`, () => {
    test("needs the libraries of this machine", () => {});
  });
}

async function check(backend: string, options: SpawnOptions, blocking: boolean, plugin?: string): Promise<void> {
  const rounds = ENDINGS.length * ELEMENTS.length * TIMES;
  const messages = plugin === undefined;
  const args: WorkerEndArgs = {
    backend,
    ...(plugin !== undefined && { plugin }),
    messages,
    endings: ENDINGS,
    elements: ELEMENTS,
    rounds,
    blocking,
  };
  const file = new URL("./fixtures/worker-end.ts", import.meta.url);
  const outcomes = await spawnRanks(2, file, { ...options, args, timeout: 280_000 });
  for (const { rank, exitCode, signal, error, hang, stderr } of outcomes) {
    const wrong = exitCode === 0 ? "" : stderr;
    expect({ rank, exitCode, signal, error: error?.stack, hang: hang?.text, wrong }).toEqual({
      rank,
      exitCode: 0,
      signal: null,
      error: undefined,
      hang: undefined,
      wrong: "",
    });
  }
  const left = outcomes[0]?.value as WorkerSide;
  const peer = outcomes[1]?.value as PeerSide;
  expect({ corrupted: left.corrupted, wrong: peer.wrong }).toEqual({ corrupted: 0, wrong: 0 });
  expect(left.canaries).toBeGreaterThan(rounds);
  expect(peer.losses).toHaveLength(rounds);
  for (const [round, { code, at, text }] of peer.losses.entries()) {
    const ending = ENDINGS[round % ENDINGS.length];
    expect({ round, ending, code, text }).toMatchObject({ code: "PEER_LOST" });
    expect(at - (left.ends[round]?.at ?? 0)).toBeLessThan(SOON_MS);
    expect(left.ends[round]?.ms).toBeLessThan(SOON_MS);
  }
  // With UCC and MPI, groups that failed during an op stay. With Gloo, only one whose threads got no CPU at the end
  // does.
  const [before, after] = left.descriptors;
  if (backend === "gloo") expect(after).toBeLessThanOrEqual(before + 8);
}

describeGloo("a Worker that ends with ops in flight, over gloo", () => {
  run.each([true, false])("its memory is left alone, and the peer is notified; blocking %p", (blocking) =>
    check("gloo", {}, blocking),
  );

  run("groups of other threads over the same shim stay usable", async () => {
    const folder = mkdtempSync(join(tmpdir(), "c10d-neighbours-"));
    try {
      const child = Bun.spawn({
        cmd: [process.execPath, fileURLToPath(new URL("./fixtures/worker-neighbours.ts", import.meta.url)), folder],
        stdout: "pipe",
        stderr: "pipe",
        timeout: 60_000,
        killSignal: "SIGKILL",
      });
      const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      expect({ code: await child.exited, err }).toEqual({ code: 0, err: "" });
      expect(JSON.parse(out)).toEqual({ right: 400, theirs: 400, of: 400 });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

ofThisMachine("ucc", () =>
  describeUcc("a Worker that ends with ops in flight, over ucc", () => {
    run.each(MODES)("its memory is left alone, and the peer is notified; blocking %p", (blocking) =>
      check("ucc", spawn, blocking),
    );
  }),
);

ofThisMachine("mpi", () => {
  for (const implementation of implementations) {
    describeMpi("a Worker that ends with ops in flight, over mpi", implementation, () => {
      run.each(MODES)("its memory is left alone, and the peer is notified; blocking %p", (blocking) =>
        check("mpi", launchWith(implementation), blocking),
      );
    });
  }
});

const noCompiler = ["cc", "c++"].some((name) => Bun.which(name) === null);
if (noCompiler) console.log("skip Workers over the shims of examples/native-backend: there is no C compiler");

describe.skipIf(noCompiler)("a Worker that ends with ops in flight, over shims of the examples", () => {
  const examples = new URL("../../examples/native-backend/", import.meta.url);
  const shims = [
    ["shm", "shm.ts", "shm.so", "build.ts"],
    ["shm-engine", "engine/shm.ts", "engine/shm.so", "engine/build.ts"],
  ] as const;
  // Compiling the engine takes longer than the test.
  run.each(shims.slice(0, FULL ? 2 : 1))(
    "its memory is left alone, and the peer is notified: %s",
    async (name, plugin, library, build) => {
      await buildIfStale(library, build);
      await check(name, {}, true, new URL(plugin, examples).href);
    },
  );
});
