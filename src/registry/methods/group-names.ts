import type { Backend } from "../contracts/backend.ts";

/** Names of the groups of backends, whose authors need not pass them on. */
const names = new WeakMap<Backend, string>();

/** For the process group: from now on, errors about ops of the backend name this group. */
export function setGroupName(backend: Backend, group: string): void {
  names.set(backend, group);
}

/** Name of the group of a backend; undefined if no process group has it. */
export function groupNameOf(backend: Backend): string | undefined {
  return names.get(backend);
}
