import { brand } from "./brand.ts";

/** Where a failure happened; every field that is known is set, and the message repeats the ones a reader needs. */
export interface ErrorDetails {
  /** Backend that ran the op, e.g. `gloo`. */
  readonly backend?: string;
  /** Name of the process group ("0" is the default group). */
  readonly group?: string;
  /** Name of the op as in the API, e.g. `allReduce`. */
  readonly op?: string;
  /** Sequence number of the op in its group: the n-th collective (or send/recv) since the group was created. */
  readonly seq?: number;
  /** Rank (in the group) that raised the error. */
  readonly rank?: number;
  /** Number of ranks that have come to a rendezvous. */
  readonly arrived?: number;
  /** Ranks (in the group) that caused it: dead, silent or late ones. */
  readonly peers?: readonly number[];
  /** What two ranks called that should have called the same: this rank first, if it is one of them. */
  readonly calls?: readonly NamedCall[];
  /** Time-out that expired, in milliseconds. */
  readonly timeoutMs?: number;
  /** Where user code called the op, as `file:line:column`. */
  readonly callSite?: string;
  /** Store keys that were missing or wrong. */
  readonly keys?: readonly string[];
  /** Remote end of a connection. */
  readonly host?: string;
  readonly port?: number;
  /** Index of the bad tensor among those of its argument, and of the bad element in it. */
  readonly tensor?: number;
  readonly element?: number;
  /** Name of the bad argument. */
  readonly argument?: string;
  /** What the CUDA driver returned. */
  readonly cuda?: CudaFailure;
}

/** How a call of the CUDA driver failed. */
export interface CudaFailure {
  /** `CUresult`. */
  readonly code: number;
  /** CUDA's name of it, such as `CUDA_ERROR_INVALID_VALUE`. */
  readonly name: string;
  /** CUDA's text for it. */
  readonly text: string;
  /** The function that returned it. */
  readonly call: string;
}

/** A call that differs from that of another rank. */
export interface NamedCall {
  /** Rank in the group. */
  readonly rank: number;
  readonly call: string;
  /** Where user code made it, as `file:line:column`, if that is known here. */
  readonly callSite?: string;
}

export interface ErrorInit extends ErrorDetails {
  readonly code?: string;
  readonly cause?: unknown;
}

/**
 * Base class of everything this package throws or rejects with. Each subclass has its own `name` and `_tag`
 * (so Effect's `catchTag` works on it), a stable `code`, and the structured {@link ErrorDetails}.
 *
 * c10d: `torch.distributed.DistError`.
 */
export class DistError extends Error {
  static {
    tag(DistError, "DistError");
  }
  declare readonly _tag: string;
  /** Stable, machine-readable reason, e.g. `OP_TIMEOUT`. */
  readonly code: string;
  readonly details: ErrorDetails;

  constructor(message: string, init: ErrorInit = {}) {
    const { code = "DIST_ERROR", cause, ...details } = init;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }
}

/** A backend or its native library failed. c10d: `DistBackendError`. */
export class DistBackendError extends DistError {
  static {
    tag(DistBackendError, "DistBackendError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "BACKEND_ERROR", ...init });
  }
}

/**
 * A call of the CUDA driver failed. `code` is `CUDA_ERROR`; `OUT_OF_MEMORY`; or `CUDA_CONTEXT_LOST` if all later calls
 * of the process on that device fail, too.
 */
export class CudaError extends DistBackendError {
  static {
    tag(CudaError, "CudaError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "CUDA_ERROR", ...init });
  }

  /** What the driver returned. */
  get cuda(): CudaFailure | undefined {
    return this.details.cuda;
  }
}

/** A connection to a peer or to the store failed or was lost. c10d: `DistNetworkError`. */
export class DistNetworkError extends DistError {
  static {
    tag(DistNetworkError, "DistNetworkError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "NETWORK_ERROR", ...init });
  }
}

/** The store refused or could not carry out a request. c10d: `DistStoreError`. */
export class DistStoreError extends DistError {
  static {
    tag(DistStoreError, "DistStoreError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "STORE_ERROR", ...init });
  }
}

/** `queuePop({ block: false })` on an empty queue. c10d: `QueueEmptyError`. */
export class QueueEmptyError extends DistStoreError {
  static {
    tag(QueueEmptyError, "QueueEmptyError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "QUEUE_EMPTY", ...init });
  }
}

/**
 * A time-out expired. `code` says which: `OP_TIMEOUT` (the op and with it its group has failed), `WAIT_TIMEOUT` (only
 * the wait ended, the op continues), `STORE_TIMEOUT`, `CONNECT_TIMEOUT`, `DRAIN_TIMEOUT` (`destroyProcessGroup` gave
 * up), `CLOSE_TIMEOUT` (a backend did not close).
 */
export class DistTimeoutError extends DistError {
  static {
    tag(DistTimeoutError, "DistTimeoutError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "TIMEOUT", ...init });
  }
}

/** The requested backend does not exist or cannot run here; the message says what to install or build. */
export class BackendUnavailableError extends DistError {
  static {
    tag(BackendUnavailableError, "BackendUnavailableError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "BACKEND_UNAVAILABLE", ...init });
  }
}

/** The backend does not implement this op, dtype or reduce op. */
export class UnsupportedOperationError extends DistError {
  static {
    tag(UnsupportedOperationError, "UnsupportedOperationError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "UNSUPPORTED_OPERATION", ...init });
  }
}

/** An argument is wrong; nothing was sent. */
export class InvalidArgumentError extends DistError {
  static {
    tag(InvalidArgumentError, "InvalidArgumentError");
  }
  constructor(message: string, init: ErrorInit = {}) {
    super(message, { code: "INVALID_ARGUMENT", ...init });
  }
}

function tag(errorClass: { readonly prototype: Error }, name: string): void {
  brand(errorClass, name);
  const fixed = { value: name, writable: true, configurable: true, enumerable: false };
  Object.defineProperties(errorClass.prototype, { name: fixed, _tag: fixed });
}
