import { pickleError } from "./pickle-error.ts";
import type { UnpickledValue } from "./pickle-value.ts";

/** How much a pickle may hold. */
export interface UnpickleLimits {
  /** Size of the pickle in bytes. 256 MiB by default. */
  readonly maxBytes?: number;
  /** Values in it, each counted as often as it is referred to. 10 million by default. */
  readonly maxValues?: number;
  /** Levels of lists, tuples and dicts. 64 by default. */
  readonly maxDepth?: number;
}

export const defaultLimits: Required<UnpickleLimits> = {
  maxBytes: 256 * 1024 * 1024,
  maxValues: 10_000_000,
  maxDepth: 64,
};

type Container = Extract<UnpickledValue, readonly unknown[] | ReadonlyMap<unknown, unknown>>;

/** A container whose contents are being measured. */
interface Open {
  readonly container: Container;
  readonly contents: readonly UnpickledValue[];
  /** Index of the next one to look at. */
  next: number;
  /** Values in it so far, itself included. */
  values: number;
  /** Levels below it so far. */
  below: number;
}

interface Size {
  readonly values: number;
  readonly depth: number;
}

/**
 * Throws if data contains itself, or is larger or deeper than the limits for a reader who follows each reference: a
 * pickle of some hundred bytes can refer to the same list 2^50 times.
 */
export function requireWithin(root: UnpickledValue, { maxValues, maxDepth }: Required<UnpickleLimits>): void {
  if (!isContainer(root)) return;
  const known = new Map<Container, Size>();
  const opened = new Set<Container>([root]);
  const path = [open(root)];
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    const inner = nextContainer(top);
    if (inner === undefined) {
      path.pop();
      opened.delete(top.container);
      const size = { values: top.values, depth: top.below + 1 };
      known.set(top.container, size);
      if (size.values > maxValues) throw pickleError(`it has more than ${maxValues} values`);
      add(path.at(-1), size);
    } else {
      if (opened.has(inner)) throw pickleError("it has a list, tuple or dict that contains itself");
      const size = known.get(inner);
      // Levels are checked on the way down, so that the path is never longer than they are.
      if (path.length + (size?.depth ?? 1) > maxDepth) throw pickleError(`its data has more than ${maxDepth} levels`);
      if (size !== undefined) {
        add(top, size);
        continue;
      }
      opened.add(inner);
      path.push(open(inner));
    }
  }
}

function open(container: Container): Open {
  const contents = Array.isArray(container) ? container : [...container.values()];
  return { container, contents, next: 0, values: 1, below: 0 };
}

/** Counts the values up to the next container in it. */
function nextContainer(top: Open): Container | undefined {
  const { contents } = top;
  while (top.next < contents.length) {
    const value = contents[top.next] ?? null;
    top.next++;
    if (isContainer(value)) return value;
    top.values++;
  }
  return undefined;
}

function add(parent: Open | undefined, { values, depth }: Size): void {
  if (parent === undefined) return;
  parent.values += values;
  parent.below = Math.max(parent.below, depth);
}

/** Whether it is a list, tuple or dict. */
export function isContainer(value: UnpickledValue): value is Container {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}
