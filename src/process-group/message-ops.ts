import { OpType, requireOptions, requireTag, requireTensor, requireTimeout } from "../collectives/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import type { Work } from "../work/index.ts";
import type { RecvOptions, SendOptions } from "./call-options.ts";
import { GroupLifecycle } from "./group-lifecycle.ts";

/** The ops of a process group between two ranks. */
export abstract class MessageOps extends GroupLifecycle {
  /**
   * Sends a tensor to one rank, which has to {@link recv} it with the same tag, dtype and length. Starts at once, also
   * while collectives are under way.
   *
   * @param options `dst` or `groupDst` names the destination.
   *
   * c10d: `send`.
   */
  send<T extends TensorLike>(tensor: T, options: SendOptions): Work<T> {
    return this.run<T>(OpType.SEND, () => {
      requireOptions("send", options);
      const peer = this.otherRank("send", "dst", options.dst, options.groupDst);
      const tag = requireTag("send", options.tag);
      const timeoutMs = requireTimeout("send", options.timeout, this.timeoutMs);
      const view = requireTensor("send", tensor);
      const backend = this.backendFor("send", view.device.type, view.dtype);
      return backend.send(view, { peer, tag, timeoutMs, owner: this });
    });
  }

  /**
   * Receives a tensor from one rank, or from any if none is named; `sourceRank()` of the Work tells from which.
   *
   * @param options `src` or `groupSrc` names the source.
   *
   * c10d: `recv`, `recv_anysource`.
   */
  recv<T extends TensorLike>(tensor: T, options: RecvOptions = {}): Work<T> {
    return this.run<T>(
      options?.src === undefined && options?.groupSrc === undefined ? OpType.RECV_ANY_SOURCE : OpType.RECV,
      () => {
        requireOptions("recv", options);
        const any = options.src === undefined && options.groupSrc === undefined;
        const peer = any ? -1 : this.otherRank("recv", "src", options.src, options.groupSrc);
        const tag = requireTag("recv", options.tag);
        const timeoutMs = requireTimeout("recv", options.timeout, this.timeoutMs);
        const view = requireTensor("recv", tensor);
        const backend = this.backendFor("recv", view.device.type, view.dtype);
        if (any) this.requireAnySource(view.device.type);
        return backend.recv(view, { peer, tag, timeoutMs, owner: this });
      },
    );
  }

  /** {@link send}; every op returns a Work, so there is no difference. c10d: `isend`. */
  isend<T extends TensorLike>(tensor: T, options: SendOptions): Work<T> {
    return this.send(tensor, options);
  }

  /** {@link recv}; every op returns a Work, so there is no difference. c10d: `irecv`. */
  irecv<T extends TensorLike>(tensor: T, options: RecvOptions = {}): Work<T> {
    return this.recv(tensor, options);
  }

  protected otherRank(
    op: string,
    argument: "src" | "dst",
    global: number | undefined,
    inGroup: number | undefined,
  ): number {
    const rank = this.toGroupRank(op, argument, global, inGroup);
    if (rank !== this.rank) return rank;
    throw new InvalidArgumentError(`${op}: ${argument} is the rank of this process itself`, { op, argument });
  }
}
