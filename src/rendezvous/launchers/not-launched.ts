import { relative } from "node:path";
import type { Environment, EnvironmentName } from "../../environment/index.ts";
import { programFile } from "../../files/index.ts";

/**
 * The message for an unset variable of env://, which begins with PyTorch's words. It names the others that are missing,
 * or, if all are, says how to start the script.
 *
 * @param needed The variables that this rank needs.
 */
export function unsetVariablesMessage(
  name: string,
  needed: readonly EnvironmentName[],
  env: Environment,
): { readonly what: string; readonly code?: string } {
  const unset = `environment variable ${name} expected, but not set`;
  const [present, absent] = [needed.filter((each) => env[each]), needed.filter((each) => !env[each])];
  const others = absent.filter((each) => each !== name);
  const too = others.length === 0 ? "" : `, nor ${are(others)}`;
  if (present.length > 0) {
    return { what: `${unset}${too}. ${isAre(present)} set; a launcher, such as c10d run, sets all of them` };
  }
  const script = scriptName();
  const what =
    `${unset}${too}: ${script ?? "this program"} was started without a launcher. Start its ranks with ` +
    `\`bun c10d run -n 2 ${script ?? "script.ts"}\`, or by torchrun, mpirun or srun (docs/launching.md), or pass each its rank: ` +
    'initProcessGroup({ init: "tcp://host:port", rank, worldSize }), or { store, rank, worldSize }';
  return { what, code: "NOT_LAUNCHED" };
}

/** The script of this process, relative to the current folder if inside it; undefined for `bun -e` and the like. */
function scriptName(): string | undefined {
  const file = programFile();
  if (file === undefined) return undefined;
  const path = relative(process.cwd(), file);
  return path.startsWith("..") ? file : path;
}

function list(names: readonly string[]): string {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

function isAre(names: readonly string[]): string {
  return `${list(names)} ${names.length === 1 ? "is" : "are"}`;
}

function are(names: readonly string[]): string {
  return `${names.length === 1 ? "is" : "are"} ${list(names)}`;
}
