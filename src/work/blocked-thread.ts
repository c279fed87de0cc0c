import { callUserCode } from "../errors/index.ts";

/** Longest time that a blocking wait keeps a service from running, in milliseconds. */
const SLICE_MS = 100;

const services = new Set<() => void>();

/**
 * Calls `service` about every 100 ms while this thread blocks in a wait, when its event loop does not run. It must not
 * block, nor call anything that the waiting code does not expect to be called meanwhile.
 */
export function serveWhileBlocked(service: () => void): Disposable {
  // A function of its own, so that the same service can be added twice.
  const own = () => service();
  services.add(own);
  return { [Symbol.dispose]: () => void services.delete(own) };
}

/** How long a wait may block at a time before {@link serveBlocked}: Infinity if nothing is to be served. */
export function blockedSliceMs(): number {
  return services.size > 0 ? SLICE_MS : Number.POSITIVE_INFINITY;
}

/** To be called between the slices of a blocking wait. */
export function serveBlocked(): void {
  serving++;
  for (const service of services) callUserCode(service);
  serving--;
}

let serving = 0;

/** Whether the calling code is a service of a blocked thread: on its stack is what the thread waits in. */
export function isServingBlocked(): boolean {
  return serving > 0;
}
