import { isSharedArrayBuffer } from "node:util/types";
import { environmentFlag } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { memoryOf } from "./memory.ts";
import type { TensorView } from "./tensor-view.ts";

/**
 * Finds code that detaches or shrinks a buffer while an op uses it: such a call throws instead. For debugging, since it
 * replaces functions of the engine.
 */
export class DetachGuard {
  /** Names of the ops that use a buffer. */
  readonly #inUse = new Map<object, string[]>();

  constructor() {
    for (const name of ["transfer", "transferToFixedLength"] as const) {
      this.#replace(ArrayBuffer.prototype, name, `ArrayBuffer.prototype.${name}`, (buffer) => [buffer]);
    }
    this.#replace(ArrayBuffer.prototype, "resize", "ArrayBuffer.prototype.resize", (buffer, [length]) =>
      Number(length) < (memoryOf(buffer)?.byteLength ?? 0) ? [buffer] : [],
    );
    this.#replace(WebAssembly.Memory.prototype, "grow", "WebAssembly.Memory.prototype.grow", (memory) => [
      (memory as WebAssembly.Memory).buffer,
    ]);
    this.#replace(globalThis, "structuredClone", "structuredClone", (_, [, options]) => transferred(options));
    this.#replace(globalThis, "postMessage", "postMessage", (_, args) => args.slice(1).flatMap(transferred));
    const threads = process.getBuiltinModule("node:worker_threads");
    // Bun's and node's may be the same class.
    const [workers, ports] = [new Set([Worker, threads.Worker]), new Set([MessagePort, threads.MessagePort])];
    for (const { prototype } of [...workers, ...ports]) {
      const title = `${prototype.constructor.name}.prototype.postMessage`;
      this.#replace(prototype, "postMessage", title, (_, [, list]) => transferred(list));
    }
    if (threads.parentPort !== null) {
      this.#replace(threads.parentPort, "postMessage", "parentPort.postMessage", (_, [, list]) => transferred(list));
    }
  }

  /** Guards the buffers of these tensors until the returned function is called. Shared ones cannot be detached. */
  guard(tensors: TensorView | readonly TensorView[], op: string): () => void {
    const buffers = [tensors]
      .flat()
      .flatMap(({ data }) => memoryOf(data)?.buffer ?? [])
      .filter((buffer) => !isSharedArrayBuffer(buffer));
    for (const buffer of buffers) this.#inUse.set(buffer, [...(this.#inUse.get(buffer) ?? []), op]);
    return () => {
      for (const buffer of buffers) {
        const ops = this.#inUse.get(buffer) ?? [];
        ops.splice(ops.indexOf(op), 1);
        if (ops.length === 0) this.#inUse.delete(buffer);
      }
    };
  }

  /** Replaces a method by one that first checks the buffers that a call would detach or shrink. */
  #replace(
    owner: object,
    name: string,
    title: string,
    takenBy: (receiver: unknown, args: readonly unknown[]) => readonly unknown[],
  ): void {
    const original: unknown = Reflect.get(owner, name);
    if (typeof original !== "function") return;
    const require = (receiver: unknown, args: readonly unknown[]): void => {
      for (const buffer of takenBy(receiver, args)) this.#requireFree(buffer, title);
    };
    const guarded = function (this: unknown, ...args: unknown[]): unknown {
      require(this, args);
      return Reflect.apply(original, this, args);
    };
    // Not defineProperty(): a Worker's global postMessage can be assigned to, but not redefined.
    Reflect.set(owner, name, guarded);
  }

  #requireFree(buffer: unknown, title: string): void {
    const ops = typeof buffer === "object" && buffer !== null ? this.#inUse.get(buffer) : undefined;
    if (ops === undefined) return;
    throw new InvalidArgumentError(
      `${title}(): the buffer is in use by ${ops.join(", ")}; await the Work of the op first (C10D_CHECK_DETACH is set)`,
      { code: "BUFFER_IN_USE", argument: "buffer" },
    );
  }
}

/** The transfer list of `postMessage()` and `structuredClone()`: a list, or options with one. */
function transferred(options: unknown): readonly unknown[] {
  if (typeof options !== "object" || options === null) return [];
  const list: unknown = Array.isArray(options) ? options : "transfer" in options ? options.transfer : [];
  return Array.isArray(list) ? list : [];
}

/** Defined if `C10D_CHECK_DETACH` is set; otherwise nothing is replaced. */
export const detachGuard: DetachGuard | undefined = environmentFlag("C10D_CHECK_DETACH")
  ? new DetachGuard()
  : undefined;
