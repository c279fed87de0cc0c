import type { DType, TensorLike } from "../../tensor/index.ts";
import type { Gradient, Parameter } from "../parameter.ts";

/**
 * The memory of a bucket of dense gradients: one flat tensor, of which each parameter of the bucket has a part. A place is
 * the number of a parameter in the bucket. One implementation for each kind of device.
 */
export interface BucketMemory extends Disposable {
  /** The flat tensor. */
  readonly buffer: TensorLike;

  /** The part for a parameter, in the form of its values. */
  viewOf(place: number): TensorLike;

  /** @throws InvalidArgumentError unless {@link copyIn} would take this gradient. */
  requireGradient(place: number, grad: Gradient): void;

  /** Sets a part to zeros. */
  clear(place: number): void;

  /**
   * Takes over a gradient.
   *
   * @param divisor By how much it is divided; 1 for not at all.
   * @returns Whether it was in the memory of its part already.
   * @throws InvalidArgumentError for a gradient of another dtype, length or layout, or in other memory.
   */
  copyIn(place: number, grad: Gradient, divisor: number): boolean;

  /**
   * Divides a part that was copied in without a divisor.
   * @param inPlace What {@link copyIn} returned.
   */
  divide(place: number, divisor: number, inPlace: boolean): void;

  /** Takes over the result of an exchange, which may be in the memory of the buffer already. */
  receive(result: TensorLike): void;

  /** Copies a part out, to where a gradient is. */
  copyOut(place: number, grad: Gradient): void;

  /** A new gradient for {@link copyOut}. */
  gradientFor(place: number): TensorLike;
}

/** Parameters of a {@link BucketMemory}. */
export interface BucketMemoryInit {
  readonly parameters: readonly Parameter[];
  /** dtype in which the gradients are exchanged. */
  readonly dtype: DType;
}
