import { expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { describeMpi } from "./fixtures/availability.ts";
import { fixture, type JobEnd, launch, run } from "./fixtures/launch.ts";
import { implementations } from "./implementation.ts";
import type { MpiImplementation } from "./options.ts";

setDefaultTimeout(60_000);

function lines(job: JobEnd): Record<string, unknown>[] {
  const objects = job.output.split("\n").filter((line) => line.startsWith("{"));
  return objects.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/**
 * A job that one of its ranks aborts. Open MPI 4.1's mpirun sometimes hangs after a rank has aborted and all ranks have
 * exited; then the job is run again.
 */
async function launchAborting(
  implementation: MpiImplementation,
  args: readonly string[],
  script = "life.ts",
): Promise<JobEnd> {
  for (let i = 0; ; i++) {
    const job = await launch(implementation, 3, script, { args, limitMs: 12_000 });
    const launcherHangs = implementation === "openmpi" && job.durationMs > 11_500;
    if (!launcherHangs || i === 3) return job;
    console.log(`remark: ${implementation}'s mpirun did not end after MPI_Abort (${args.join(" ")}); running it again`);
  }
}

const ends = (job: JobEnd): number => job.output.match(/^end of rank \d+$/gm)?.length ?? 0;

for (const implementation of implementations) {
  describeMpi("mpi life cycle", implementation, () => {
    test.each([1, 2, 4])("%d ranks need no MASTER_ADDR, and exit cleanly", async (n) => {
      const job = await launch(implementation, n, "life.ts");
      const ranks = lines(job).sort((a, b) => Number(a.rank) - Number(b.rank));
      const sum = (n * (n + 1)) / 2;
      expect([job.exitCode, ranks]).toEqual([0, Array.from({ length: n }, (_, rank) => ({ rank, size: n, sum }))]);
      expect(ends(job)).toBe(n);
    });

    test("a process without a launcher is a job of its own", async () => {
      const job = await run([process.execPath, fixture("life.ts"), "alone", implementation]);
      expect([job.exitCode, lines(job), ends(job)]).toEqual([0, [{ rank: 0, size: 1, sum: 1 }], 1]);
    });

    test("ranks that do not destroy the group still exit cleanly", async () => {
      const job = await launch(implementation, 2, "life.ts", { args: ["undestroyed"] });
      expect([job.exitCode, ends(job), job.output.includes("WARN")]).toEqual([0, 2, false]);
    });

    test("a rank that does not call initProcessGroup is named by the others", async () => {
      const job = await launchAborting(implementation, [], "absent.ts");
      const errors = lines(job).sort((a, b) => Number(a.rank) - Number(b.rank));
      expect(errors.map(({ rank, code }) => [rank, code])).toEqual([0, 1].map((rank) => [rank, "CONNECT_TIMEOUT"]));
      for (const { message } of errors) {
        expect(message).toContain("MPI_Init_thread did not end within 2000 ms");
        expect(message).toMatch(
          /; it waits for rank 2, which has no status record here: .*not called initProcessGroup$/,
        );
      }
    });

    test("a rank may leave before the others", async () => {
      const job = await launch(implementation, 3, "life.ts", { args: ["early"] });
      expect([job.exitCode, ends(job)]).toEqual([0, 2]);
    });

    test("the exit code of one rank is that of the job", async () => {
      const job = await launchAborting(implementation, ["exit", "42"]);
      expect(job.exitCode).toBe(42);
      expect(job.durationMs).toBeLessThan(15_000);
    });

    test.each(["throw", "reject"])("an uncaught error ends the job, its message first: %s", async (ending) => {
      const job = await launchAborting(implementation, [ending]);
      expect(job.exitCode).not.toBe(0);
      expect(job.output).toContain("error: the trouble of one rank");
      const launcherSays = job.output.search(/MPI_ABORT was invoked|application called MPI_Abort/);
      if (launcherSays >= 0) expect(job.output.indexOf("the trouble of one rank")).toBeLessThan(launcherSays);
      expect(job.durationMs).toBeLessThan(12_000);
    });

    test("if a rank is killed, the launcher ends the job", async () => {
      const job = await launch(implementation, 3, "life.ts", { args: ["kill"] });
      expect(job.exitCode).not.toBe(0);
      expect(ends(job)).toBe(0);
      expect(job.durationMs).toBeLessThan(15_000);
    });

    test("a rank that is stopped makes the others time out, and is named", async () => {
      const job = await launch(implementation, 3, "life.ts", { args: ["stop"], limitMs: 40_000 });
      // The launcher resumes the stopped rank when the others have left, before ending it. They do not wait for it.
      expect(job.durationMs).toBeLessThan(20_000);
      const errors = lines(job).filter(({ rank, error }) => error !== undefined && rank !== 1);
      expect(errors.map(({ rank }) => rank).sort()).toEqual([0, 2]);
      for (const { error, ms } of errors) {
        expect(error).toMatch(/DistTimeoutError: allReduce #2 .*timed out after 800 ms.*rank 1 did not arrive/);
        expect(Number(ms)).toBeGreaterThanOrEqual(800);
        expect(Number(ms)).toBeLessThan(8_000);
      }
    });

    test("a rank that exits silently is named by those that wait for it", async () => {
      const job = await launch(implementation, 3, "life.ts", { args: ["away"], limitMs: 40_000 });
      const errors = lines(job).filter(({ error }) => error !== undefined);
      expect(errors.map(({ rank }) => rank).sort()).toEqual([0, 2]);
      for (const { error, ms } of errors) {
        expect(error).toMatch(/DistNetworkError: allReduce #2 .*rank 1 has ended/);
        expect(Number(ms)).toBeLessThan(18_000);
      }
    });

    test("a rank that ends while a group is made is named, and no process crashes", async () => {
      const job = await launch(implementation, 3, "life.ts", { args: ["making"], limitMs: 40_000 });
      const errors = lines(job).filter(({ error }) => error !== undefined);
      expect(errors.map(({ rank }) => rank).sort()).toEqual([0, 2]);
      // The group may have been made just before.
      for (const { error } of errors)
        expect(error).toMatch(/^undefined$|rank 1 (did not join|is lost|has (ended|left))/);
      expect(job.output).not.toMatch(/crashed|Segmentation|Assertion|signal (6|11)/);
      expect(job.durationMs).toBeLessThan(15_000);
    });

    test.each(["exit", "terminate", "unref", "destroy"])(
      "a process in which only a Worker uses MPI ends it: %s",
      async (ending) => {
        const job = await launch(implementation, 2, "only-workers.ts", { args: [ending] });
        const ranks = lines(job).sort((a, b) => Number(a.rank) - Number(b.rank));
        expect([job.exitCode, ranks]).toEqual([0, [0, 1].map((rank) => ({ rank, size: 2, sum: 3 }))]);
        expect(job.output).not.toMatch(/without calling "finalize"|BAD TERMINATION|improperly/);
      },
    );

    test("a process in which only a Worker uses MPI passes on its exit code", async () => {
      const job = await launchAborting(implementation, ["code"], "only-workers.ts");
      expect(job.exitCode).toBe(42);
      expect(job.durationMs).toBeLessThan(12_000);
    });

    test("c10d run cannot start MPI ranks, and the error says what can", async () => {
      const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
      const job = await run([process.execPath, main, "run", "-n", "2", fixture("life.ts")]);
      expect(job.exitCode).not.toBe(0);
      expect(job.output).toContain("start the job with `mpirun -n 2 bun script.ts`");
    });
  });
}
