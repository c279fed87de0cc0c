import type { TensorView } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";

/**
 * What a backend may offer for the memory of tensors besides ops, such as NCCL's buffer registration and windows. A
 * method that is missing is not supported. The Works are as those of {@link Backend.submit}.
 */
export interface MemoryServices {
  /** Prepares memory that many ops are going to use, which makes them faster. Of this rank alone. */
  register?(memory: TensorView, timeoutMs: number): Work<void>;
  /** Ends {@link register}, before the memory is freed. */
  deregister?(memory: TensorView, timeoutMs: number): Work<void>;
  /** Lets the other ranks access memory of this one. All ranks of the group call it, in the order of its collectives. */
  openWindow?(memory: TensorView, timeoutMs: number): Work<void>;
  /** Ends {@link openWindow}; all ranks call it. */
  closeWindow?(memory: TensorView, timeoutMs: number): Work<void>;
  /** Address of a rank's part of an open window; 0 if this process cannot access it. */
  addressInWindow?(memory: TensorView, rank: number): number;
}
