import type { Operation } from "../../collectives/op-table.ts";
import { type ReduceOp, type ReduceOpName, reduceOpCodes } from "../../collectives/reduce-op.ts";
import { UnsupportedOperationError } from "../../errors/index.ts";
import { type DType, dtypeNames, dtypes } from "../../tensor/index.ts";

/** What a backend can do. Validation, documentation and the conformance suite all read this one table. */
export interface Capabilities {
  /** dtypes of each op that is implemented; ops without tensors have an empty list. */
  readonly ops: { readonly [op in Operation]?: readonly DType[] };
  /** Reduce ops of each dtype, for the ops that reduce. */
  readonly reduceOps: { readonly [dtype in DType]?: readonly ReduceOpName[] };
  /** Whether `recv` works without naming a source. Default is `false`. */
  readonly anySource?: boolean;
  /** Whether ops are numbered alike on all ranks, so that errors can name the op. Default is `false`. */
  readonly sequenceNumbers?: boolean;
  /** Whether ops in flight can be aborted without ending the process. Default is `false`. */
  readonly abort?: boolean;
  /**
   * Whether `send` and `recv` are ordered with the collectives, as in NCCL: then a `recv` blocks the collectives that
   * the rank calls after it. Default is `false`: messages and collectives do not wait for each other.
   */
  readonly messagesInOrder?: boolean;
  /**
   * Whether each op ends within its own time-out, in `await` and in `wait()`, so that the process group need not
   * monitor it. Default is `false`: the process group ends an op that is still pending a second after its time-out, at
   * a small cost.
   */
  readonly keepsTimeouts?: boolean;
  /** What this release of a library lacks and a newer one has, with what is needed for it: for errors. */
  readonly missing?: { readonly [name in DType | "registerMemory" | "openWindow"]?: string };
}

/**
 * Expands reduce ops given by kind of dtype to every dtype, for {@link Capabilities.reduceOps}. 8-bit floats have none
 * by default.
 */
export function reduceOpsByKind(
  kinds: Readonly<Record<"float" | "integer" | "bool" | "complex", readonly ReduceOpName[]>> & {
    readonly float8?: readonly ReduceOpName[];
  },
): Capabilities["reduceOps"] {
  return Object.fromEntries(
    dtypeNames.map((name) => {
      const { kind } = dtypes[name];
      return [name, kinds[kind === "signed" || kind === "unsigned" ? "integer" : kind] ?? []];
    }),
  );
}

/** A capability table with fast look-ups. */
export class CapabilityTable {
  readonly #backend: string;
  readonly #anySource: boolean;
  readonly #missing: NonNullable<Capabilities["missing"]>;
  readonly #dtypes: { [op in Operation]?: ReadonlySet<DType> } = {};
  /** Bit of each reduce op. */
  readonly #reductions: { [dtype in DType]?: number } = {};

  constructor(backend: string, capabilities: Capabilities) {
    this.#backend = backend;
    this.#anySource = capabilities.anySource ?? false;
    this.#missing = capabilities.missing ?? {};
    for (const [op, dtypes] of Object.entries(capabilities.ops)) this.#dtypes[op as Operation] = new Set(dtypes);
    for (const [dtype, names] of Object.entries(capabilities.reduceOps)) {
      this.#reductions[dtype as DType] = names.reduce((mask, name) => mask | maskOf(name), 0);
    }
  }

  /** Throws UnsupportedOperationError unless `recv` works without naming a source. */
  requireAnySource(): void {
    if (this.#anySource) return;
    throw new UnsupportedOperationError(
      `recv: backend "${this.#backend}" cannot receive from any rank: name one with src or groupSrc`,
      { backend: this.#backend, op: "recv", argument: "src" },
    );
  }

  /** Whether the backend implements `op`, for some dtype if it has tensors. */
  hasOp(op: Operation): boolean {
    return this.#dtypes[op] !== undefined;
  }

  /** Whether the backend implements `op` for `dtype` and `reduceOp`. */
  has(op: Operation, dtype: DType, reduceOp?: ReduceOp): boolean {
    if (this.#dtypes[op]?.has(dtype) !== true) return false;
    return reduceOp === undefined || ((this.#reductions[dtype] ?? 0) & (1 << reduceOp.code)) !== 0;
  }

  /** Throws UnsupportedOperationError unless the backend implements `op` for `dtype` and `reduceOp`. */
  require(op: Operation, dtype?: DType, reduceOp?: ReduceOp): void {
    const dtypes = this.#dtypes[op];
    if (dtypes === undefined) {
      throw new UnsupportedOperationError(`backend "${this.#backend}" does not implement ${op}`, {
        backend: this.#backend,
        op,
      });
    }
    if (dtype === undefined) return;
    if (!dtypes.has(dtype)) {
      const missing = this.#missing[dtype];
      const reason = missing === undefined ? "" : `: ${missing}`;
      throw new UnsupportedOperationError(
        `${op}: backend "${this.#backend}" does not take ${dtype} tensors${reason} (it takes ${[...dtypes].join(", ")})`,
        { backend: this.#backend, op, argument: "dtype" },
      );
    }
    if (reduceOp !== undefined && ((this.#reductions[dtype] ?? 0) & (1 << reduceOp.code)) === 0) {
      const has = reduceOpNames.filter((name) => ((this.#reductions[dtype] ?? 0) & maskOf(name)) !== 0);
      throw new UnsupportedOperationError(
        `${op}: backend "${this.#backend}" cannot use ReduceOp.${reduceOp} with ${dtype} tensors (it has ${has.join(", ") || "no reduce op for them"})`,
        { backend: this.#backend, op, argument: "op" },
      );
    }
  }
}

const reduceOpNames = Object.keys(reduceOpCodes) as readonly ReduceOpName[];
const maskOf = (name: ReduceOpName): number => 1 << reduceOpCodes[name];
