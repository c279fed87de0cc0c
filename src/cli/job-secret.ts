import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type Environment, processEnvironment } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { isTrusted } from "../files/index.ts";

export interface SecretFlags {
  readonly nnodes: number;
  readonly secretFile: string | undefined;
  /** Why ranks use PyTorch's open protocol: a flag asks for it, or torchrun started the launcher. */
  readonly torchCompat: "asked" | "by torchrun" | undefined;
  readonly insecure: boolean;
}

/**
 * The secret of a job's store: from the file or `C10D_STORE_SECRET`, null for the open protocol, undefined for a new
 * one in each attempt, which is possible with one node.
 * @throws InvalidArgumentError when several nodes have no secret and no flag allows that.
 */
export function jobSecret(flags: SecretFlags, env: Environment = processEnvironment()): string | null | undefined {
  const { nnodes, secretFile, torchCompat, insecure } = flags;
  const open = torchCompat !== undefined || insecure;
  if (open && secretFile !== undefined) {
    const flag = insecure ? "--insecure" : "--torch-compat";
    throw new InvalidArgumentError(`--secret-file cannot be combined with ${flag}, which needs an open store`, {
      argument: "secret-file",
    });
  }
  const allowed = nnodes === 1 || insecure || torchCompat === "asked";
  if (open && allowed) return null;
  const secret = secretFile === undefined ? env.C10D_STORE_SECRET : readSecret(secretFile);
  if (nnodes === 1 || (secret && !open)) return secret || undefined;
  throw new InvalidArgumentError(
    "several nodes need a secret, so that others in the network cannot take part in the job: give all of them the same C10D_STORE_SECRET, or a file of mode 0600 as --secret-file (openssl rand -hex 32 makes one). To run without a secret, give --insecure.",
    { argument: "secret-file" },
  );
}

function readSecret(path: string): string {
  const refuse = (what: string, cause?: unknown) =>
    new InvalidArgumentError(`--secret-file: ${path} ${what}`, { argument: "secret-file", cause });
  const attempt = <T>(act: () => T): T => {
    try {
      return act();
    } catch (error) {
      throw refuse("cannot be read", error);
    }
  };
  // The file that is checked must be the file that is read, even if it is replaced meanwhile. A shell may pass a pipe.
  const fd = attempt(() => openSync(path, "r"));
  try {
    const { uid, mode } = attempt(() => fstatSync(fd));
    if (!isTrusted(uid)) throw refuse(`belongs to another user (uid ${uid}), who can read it: create your own`);
    if ((mode & 0o077) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, "0");
      throw refuse(`can be read by others (mode ${octal}): chmod 600 ${path}`);
    }
    const bytes = attempt(() => firstBytes(fd, MAX_BYTES + 1));
    if (bytes.length > MAX_BYTES) throw refuse(`has more than ${MAX_BYTES} bytes`);
    const text = new TextDecoder().decode(bytes).trim();
    if (text === "") throw refuse("is empty");
    return text;
  } finally {
    closeSync(fd);
  }
}

const MAX_BYTES = 65_536;

function firstBytes(fd: number, most: number): Uint8Array {
  const bytes = new Uint8Array(most);
  let length = 0;
  for (let count = -1; count !== 0 && length < most; length += count)
    count = readSync(fd, bytes, length, most - length, null);
  return bytes.subarray(0, length);
}
