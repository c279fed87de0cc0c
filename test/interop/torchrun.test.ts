import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ForkedPython } from "./forked-python.ts";
import { freePort, peerEnvironment } from "./programs.ts";
import { describeWithTorch, fixture } from "./torch.ts";

setDefaultTimeout(120_000);

type Kind = "Bun" | "Python";

interface Failure {
  readonly rank: number;
  readonly attempt: number;
  /** Whether it fails before it meets the others. */
  readonly before: boolean;
}

interface Report {
  readonly rank: number;
  readonly attempt: number;
  readonly local: number;
  readonly size: number;
  readonly sum: number;
  readonly kind: Kind;
}

/** Folder in which the ranks of a job write their results. */
class Results implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "c10d-torchrun-"));

  get reports(): Report[] {
    const files = readdirSync(this.folder).map((file) => readFileSync(join(this.folder, file), "utf8"));
    return files.map((text) => JSON.parse(text) as Report).sort((a, b) => a.rank - b.rank);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true });
  }
}

const environment = {
  ...peerEnvironment,
  // With several nodes PyTorch uses the address of the host name, which may not be the store's.
  GLOO_SOCKET_IFNAME: "lo",
};

describeWithTorch("torchrun", (python) => {
  let pythons: ForkedPython;
  beforeAll(async () => {
    pythons = await ForkedPython.start(python, environment);
  });
  afterAll(() => pythons[Symbol.asyncDispose]());

  /** Runs torchrun until it exits; kills it if that takes too long. */
  async function torchrun(args: readonly string[], results: Results) {
    const program = { module: "torch.distributed.run", argv: ["--no-python", ...args] };
    const { code, stderr } = await pythons.run(program, { RESULT_FOLDER: results.folder }, 90_000);
    return { exitCode: code, stderr };
  }

  const programs: Record<Kind, readonly string[]> = {
    Bun: [process.execPath, fixture("restarted-rank.ts")],
    Python: [python, fixture("restarted_rank.py")],
  };

  /** The program of a rank by its rank; it fails as planned. */
  function ranks(kinds: readonly Kind[], failures: readonly Failure[] = []): string[] {
    const run = (kind: Kind) =>
      `exec ${[...programs[kind], JSON.stringify(failures)].map((word) => `'${word}'`).join(" ")}`;
    const cases = kinds.map((kind, rank) => `${rank}) ${run(kind)};;`);
    return ["sh", "-c", `case "$RANK" in ${cases.join(" ")} esac`];
  }

  const expected = (kinds: readonly Kind[], attempt: number, perNode: number): Report[] =>
    kinds.map((kind, rank) => {
      const size = kinds.length;
      return { rank, attempt, local: rank % perNode, size, sum: (size * (size + 1)) / 2, kind };
    });

  test.each<[string, Kind[], Failure[]]>([
    ["a rank that fails between ops", ["Bun", "Bun"], [{ rank: 1, attempt: 0, before: false }]],
    ["ranks that fail before they meet", ["Bun", "Bun"], [0, 1].map((n) => ({ rank: n, attempt: n, before: true }))],
    [
      "both, one after the other",
      ["Bun", "Bun", "Bun"],
      [
        { rank: 2, attempt: 0, before: true },
        { rank: 0, attempt: 1, before: false },
      ],
    ],
  ])("--max-restarts after %s", async (_, kinds, failures) => {
    using results = new Results();
    const flags = [
      "--nproc-per-node",
      String(kinds.length),
      "--max-restarts",
      "3",
      "--master-port",
      String(freePort()),
    ];
    const { exitCode, stderr } = await torchrun([...flags, ...ranks(kinds, failures)], results);
    expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(results.reports).toEqual(expected(kinds, failures.length, kinds.length));
  });

  test.each<[string, Kind[]]>([
    ["all of Bun", ["Bun", "Bun", "Bun", "Bun"]],
    ["one of Python", ["Bun", "Python", "Bun", "Bun"]],
  ])("two nodes with ranks, %s", async (_, kinds) => {
    using results = new Results();
    const meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", `127.0.0.1:${freePort()}`, "--rdzv-id", "nodes"];
    const flags = ["--nnodes", "2", "--nproc-per-node", "2", ...meeting, "--local-addr", "127.0.0.1"];
    const ended = await Promise.all([0, 1].map(() => torchrun([...flags, ...ranks(kinds)], results)));
    expect(ended.filter(({ exitCode }) => exitCode !== 0)).toEqual([]);
    expect(results.reports).toEqual(expected(kinds, 0, 2));
  });
});
