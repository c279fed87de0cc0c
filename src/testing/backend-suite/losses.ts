import type { Capabilities } from "../../registry/index.ts";
import type { SuiteSpawn } from "./run-suite.ts";

/** A case in which a rank is lost: a job of its own, since that rank cannot be used again. */
export interface LossCase {
  /** Unique, e.g. `losses > a rank is killed in a collective`. */
  readonly name: string;
  /** `kill` is SIGKILL, `stop` is SIGSTOP; in a Worker, its exit, and a blocked thread. */
  readonly fault: "kill" | "stop";
  /** The op of the others: a collective that the rank does not call, or a message from it. */
  readonly op: "collective" | "message";
  readonly mode: "await" | "wait";
}

/** Every case in which a rank is lost, those of a smoke sweep first. */
export const lossCases: readonly LossCase[] = (["await", "wait"] as const).flatMap((mode) =>
  (
    [
      ["kill", "collective"],
      ["stop", "message"],
      ["kill", "message"],
      ["stop", "collective"],
    ] as const
  ).map(([fault, op]) => {
    const what = `a rank is ${fault === "kill" ? "killed" : "stopped"} in a ${op}`;
    return { name: `losses > ${what}${mode === "wait" ? ", and the others wait()" : ""}`, fault, op, mode };
  }),
);

/** Cases of a smoke sweep: with ranks in Workers only the first one. */
export function sampledLosses(spawn: SuiteSpawn): readonly LossCase[] {
  return lossCases.slice(0, spawn === "workers" ? 1 : 2);
}

/** What decides which cases apply. */
export interface LossTerms {
  readonly capabilities: Capabilities;
  readonly worldSize: number;
  /** Why `wait()` cannot block; undefined if it can. */
  readonly waitCannotBlock: string | undefined;
  readonly spawn: SuiteSpawn;
  /** Whether ranks in other processes can load the plugin. */
  readonly isLoadable: boolean;
}

/** Why a case does not apply; undefined if it does. */
export function whyNoLoss(
  { fault, op, mode }: LossCase,
  { capabilities, worldSize, waitCannotBlock, spawn, isLoadable }: LossTerms,
): string | undefined {
  if (worldSize < 2) return "needs 2 ranks";
  if (spawn === false) return "the ranks share a thread, so that none can be lost alone";
  if (!isLoadable) return "its plugin has no module, so that no rank can run in a process of its own";
  if (op === "message" && capabilities.ops.recv === undefined) return "does not claim recv, and must reject it";
  if (mode === "wait" && waitCannotBlock !== undefined) return `wait() cannot block: ${waitCannotBlock}`;
  if (fault === "kill" && spawn !== "workers" && spawn.launcher !== undefined) {
    return `${spawn.launcher[0]} ends all ranks when one of them is killed`;
  }
  return undefined;
}
