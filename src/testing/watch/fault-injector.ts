import { timeoutMs } from "../../time/index.ts";
import type { Fault, FaultTime } from "../fault.ts";
import type { OpLogWriter } from "./op-log.ts";

/** Counts the ops of this rank and carries out the faults of the script. */
export class FaultInjector {
  readonly #faults: readonly Fault[];
  readonly #log: OpLogWriter;
  #ops = 0;

  /** @param faults Those of this rank; the log identifies them by their index in the list. */
  constructor(faults: readonly Fault[], log: OpLogWriter) {
    this.#faults = faults;
    this.#log = log;
  }

  /** Number of the op that begins now. */
  count(): number {
    return ++this.#ops;
  }

  /** Carries out the faults for this time of this op. */
  strike(when: FaultTime, op: number): void {
    for (const [i, fault] of this.#faults.entries()) {
      if (fault.op !== op || fault.action === "drop" || fault.when !== when) continue;
      this.#log.fired(i);
      if (fault.action === "delay") Bun.sleepSync(timeoutMs(fault.by, 0));
      else process.kill(process.pid, fault.action === "kill" ? "SIGKILL" : "SIGSTOP");
    }
  }

  /** Whether this op is dropped. */
  drops(op: number): boolean {
    const at = this.#faults.findIndex((fault) => fault.action === "drop" && fault.op === op);
    if (at >= 0) this.#log.fired(at);
    return at >= 0;
  }
}
