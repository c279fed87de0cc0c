import { InvalidArgumentError } from "../errors/index.ts";
import { type Timeout, timeoutMs } from "../time/index.ts";

/** When a fault strikes: before the op is submitted, right after that, or once it has ended on that rank. */
export type FaultTime = "before" | "during" | "after";

/**
 * A fault of a rank that `spawnRanks` runs. Ops are counted from 1, per rank: every collective and message that reaches
 * a backend, over all groups. An object collective is several ops.
 */
export type Fault =
  | {
      /** `kill`: SIGKILL. `stop`: SIGSTOP, until the process receives SIGCONT. */
      readonly action: "kill" | "stop";
      readonly rank: number;
      readonly when: FaultTime;
      readonly op: number;
    }
  | {
      /** The rank's thread is blocked for a while. */
      readonly action: "delay";
      readonly rank: number;
      readonly when: FaultTime;
      readonly op: number;
      readonly by: Timeout;
    }
  | {
      /**
       * The rank's part in the op is lost: it never reaches the backend, and its Work stays pending until the op's
       * time-out, which fails the group. Later collectives of the rank on that group wait behind a lost collective.
       */
      readonly action: "drop";
      readonly rank: number;
      readonly op: number;
    };

/** What became of a fault. */
export interface FaultOutcome {
  /** As a line of the script, e.g. `kill rank 2 before op 5`. */
  readonly fault: string;
  /** Whether the rank reached it. */
  readonly fired: boolean;
}

const LINE =
  /^\s*(kill|stop|delay|drop)\s+rank\s+(\d+)(?:\s+(before|during|after))?\s+op\s+(\d+)(?:\s+by\s+(\S+))?\s*$/i;
const EXAMPLES =
  '"kill rank 2 before op 5", "stop rank 1 after op 3", "delay rank 0 before op 2 by 300ms", "drop rank 1 op 4"';

/** Maximum number of faults of one rank. */
export const MAX_FAULTS = 192;

/** Reads a whole script. @throws InvalidArgumentError as {@link parseFault}. */
export function parseFaults(script: readonly (string | Fault)[], worldSize: number): Fault[] {
  if (!Array.isArray(script)) {
    throw new InvalidArgumentError(`faults: expected a list of lines such as ${EXAMPLES}`, { argument: "faults" });
  }
  const faults = script.map((line) => parseFault(line, worldSize));
  const crowded = faults.find(({ rank }) => faultsOfRank(faults, rank).length > MAX_FAULTS);
  if (crowded === undefined) return faults;
  throw new InvalidArgumentError(`faults: rank ${crowded.rank} has more than ${MAX_FAULTS}`, { argument: "faults" });
}

export function faultsOfRank(faults: readonly Fault[], rank: number): Fault[] {
  return faults.filter((fault) => fault.rank === rank);
}

/**
 * Reads a line of a fault script, or checks a fault.
 * @throws InvalidArgumentError saying what is wrong with it.
 */
export function parseFault(line: string | Fault, worldSize: number): Fault {
  const fault = typeof line === "string" ? read(line) : line;
  const fail = (what: string): never => {
    const given = typeof line === "string" ? `"${line}"` : JSON.stringify(line);
    throw new InvalidArgumentError(`faults: ${given}: ${what}`, { argument: "faults" });
  };
  if (!["kill", "stop", "delay", "drop"].includes(fault?.action)) fail("there is no such action");
  if (!Number.isInteger(fault.rank) || fault.rank < 0 || fault.rank >= worldSize) {
    fail(`there is no rank ${fault.rank} among ${worldSize}`);
  }
  if (!Number.isInteger(fault.op) || fault.op < 1) fail("ops are counted from 1");
  if (fault.action !== "drop" && !["before", "during", "after"].includes(fault.when)) {
    fail('say when: "before", "during" or "after" the op');
  }
  if (fault.action === "delay" && !Number.isFinite(timeoutMs(fault.by, 0))) fail("a delay must be finite");
  return fault;
}

function read(line: string): Fault {
  const fail = (what: string): never => {
    throw new InvalidArgumentError(`faults: "${line}": ${what}; write for instance ${EXAMPLES}`, {
      argument: "faults",
    });
  };
  const match = LINE.exec(line) ?? fail("this is not a fault");
  const [, action = "", rank = "", when, op = "", by] = match;
  const where = { rank: Number(rank), op: Number(op) };
  const verb = action.toLowerCase();
  if (verb === "drop") {
    if (when !== undefined || by !== undefined) fail("a drop takes neither a time nor a length");
    return { action: "drop", ...where };
  }
  if (when === undefined) return fail('say when: "before", "during" or "after" the op');
  const timed = { ...where, when: when.toLowerCase() as FaultTime };
  if (verb === "delay") return { action: "delay", ...timed, by: by ?? fail('say for how long, e.g. "by 300ms"') };
  if (by !== undefined) fail(`a ${verb} takes no length`);
  return { action: verb === "kill" ? "kill" : "stop", ...timed };
}

/** A fault as a line of the script. */
export function faultText(fault: Fault): string {
  const { action, rank, op } = fault;
  if (action === "drop") return `drop rank ${rank} op ${op}`;
  const length = action === "delay" ? ` by ${typeof fault.by === "number" ? `${fault.by}ms` : fault.by}` : "";
  return `${action} rank ${rank} ${fault.when} op ${op}${length}`;
}
