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
  readonly contents: Iterator<UnpickledValue>;
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
  const path = [open(root)];
  const opened = new Set<Container>([root]);
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    const next = top.contents.next();
    let size: Size = { values: 1, depth: 0 };
    if (next.done !== true) {
      const value = next.value;
      if (isContainer(value)) {
        if (opened.has(value)) throw pickleError("it has a list, tuple or dict that contains itself");
        const measured = known.get(value);
        if (measured === undefined) {
          // Its own levels are checked on the way down, so that the path is never longer than they are.
          if (path.length >= maxDepth) throw pickleError(`its data has more than ${maxDepth} levels`);
          path.push(open(value));
          opened.add(value);
          continue;
        }
        size = measured;
      }
    } else {
      path.pop();
      opened.delete(top.container);
      size = { values: top.values, depth: top.below + 1 };
      known.set(top.container, size);
    }
    const parent = path.at(-1);
    if (parent === undefined) return;
    parent.values += size.values;
    parent.below = Math.max(parent.below, size.depth);
    if (parent.values > maxValues) throw pickleError(`it has more than ${maxValues} values`);
    if (path.length + parent.below > maxDepth) throw pickleError(`its data has more than ${maxDepth} levels`);
  }
}

function open(container: Container): Open {
  return { container, contents: container.values(), values: 1, below: 0 };
}

function isContainer(value: UnpickledValue): value is Container {
  return Array.isArray(value) || value instanceof Map;
}
