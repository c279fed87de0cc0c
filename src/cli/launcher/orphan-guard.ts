import { DistError, descriptorShortage, shortageOfStart } from "../../errors/index.ts";

const script = `
groups=
while read -r line; do groups=$line; done
[ -n "$groups" ] || exit 0
kill -s TERM -- $groups
sleep "$1"
kill -s KILL -- $groups
`;

/**
 * Ends the ranks when the launcher was killed and cannot do it. A shell in its own session reads a pipe whose other end
 * only the launcher holds, so end of file means that the launcher has died.
 */
export class OrphanGuard implements Disposable {
  readonly #shell: Bun.Subprocess<"pipe", "ignore", "ignore"> | undefined;

  constructor(graceMs: number) {
    try {
      this.#shell = Bun.spawn({
        cmd: ["sh", "-c", script, "c10d-orphan-guard", String(graceMs / 1000)],
        detached: true,
        stdin: "pipe",
        stdout: "ignore",
        stderr: "ignore",
      });
      this.#shell.unref();
    } catch (error) {
      const shortage = shortageOfStart(error) ?? descriptorShortage();
      if (shortage) {
        throw new DistError(`cannot guard the ranks: ${shortage.text}`, { code: shortage.code, cause: error });
      }
      // Without a shell (minimal containers) the job runs unguarded.
      this.#shell = undefined;
    }
  }

  /** Sets the process groups that it ends. */
  watch(processGroups: readonly number[]): void {
    const shell = this.#shell;
    if (shell === undefined || shell.exitCode !== null || shell.signalCode !== null) return;
    shell.stdin.write(`${processGroups.map((id) => `-${id}`).join(" ")}\n`);
    // A guard that was killed is no reason to end the job.
    Promise.resolve(shell.stdin.flush()).catch(() => {});
  }

  /** Ends the guard; the ranks are left alone. */
  [Symbol.dispose](): void {
    this.#shell?.kill("SIGKILL");
  }
}
