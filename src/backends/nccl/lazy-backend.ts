import { NO_TENSORS, type OpCall, opCall, opTypeOf } from "../../collectives/op-call.ts";
import { opTable } from "../../collectives/op-table.ts";
import { OpType } from "../../collectives/op-type.ts";
import { DistBackendError, DistError, InvalidArgumentError, UnsupportedOperationError } from "../../errors/index.ts";
import { Backend, type BackendContext, type Capabilities, type MemoryServices } from "../../registry/index.ts";
import { currentStreamOf, type Device, type TensorView } from "../../tensor/index.ts";
import { type GroupState, Work } from "../../work/index.ts";
import type { OpStreams } from "../native/op-streams.ts";
import { Communicator } from "./communicator.ts";
import { inGroup, type Pair, pairKey } from "./pair-work.ts";

/** What a communicator is made for. */
export interface CommunicatorPlan {
  readonly device: Device;
  /** Key of its unique id in the store, PyTorch's. */
  readonly idKey: string;
  /** Two ranks, for their messages; all ranks of the group if undefined. */
  readonly pair: Pair | undefined;
  readonly timeoutMs: number;
  /** Aborted, with the reason, when it is no longer wanted. */
  readonly signal: AbortSignal;
}

/** Makes communicators. */
export type ConnectCommunicator = (plan: CommunicatorPlan) => Promise<Backend>;

/** What a {@link LazyBackend} needs besides its context. */
export interface LazyBackendInit {
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly connect: ConnectCommunicator;
  /** Tells the other ranks, which may be making a communicator that this one has not begun, that the group has failed. */
  report(reason: string): void;
  /** Tells the other ranks that this one closes the group, and which communicators it has made, by their keys. */
  leave(made: readonly string[]): Promise<void>;
  readonly streams: OpStreams;
  /** Number of devices of this process. */
  readonly deviceCount: number;
}

type Context = Pick<
  BackendContext,
  "rank" | "size" | "globalRanks" | "groupName" | "device" | "timeoutMs" | "logger" | "clock"
>;

/**
 * A group whose communicators are made by the first op that needs them, as in PyTorch without a bound device: one for
 * each device, and one for each pair of ranks that exchange single messages. All ranks of a communicator have to call
 * such an op. Meanwhile the ops wait, in their order.
 */
export class LazyBackend extends Backend {
  override readonly name: string;
  override readonly capabilities: Capabilities;
  readonly #context: Context;
  readonly #init: LazyBackendInit;
  /** By the index of the device. */
  readonly #ofDevices = new Map<number, Communicator>();
  /** By the rank of the peer, with the device that it is on. */
  readonly #ofPeers = new Map<number, { readonly device: Device; readonly communicator: Communicator }>();
  /** c10d: `ncclCommCounter_`. */
  #counter = 0;
  #isTimed = false;
  #isClosed = false;
  #failure: string | undefined;
  /** The communicator that failed first. */
  #failed: Communicator | undefined;

  constructor(context: Context, init: LazyBackendInit) {
    super(context.rank, context.size);
    this.name = init.name;
    this.capabilities = init.capabilities;
    this.#context = context;
    this.#init = init;
  }

  get #all(): Communicator[] {
    return [...this.#ofDevices.values(), ...[...this.#ofPeers.values()].map(({ communicator }) => communicator)];
  }

  override get state(): GroupState {
    if (this.#isClosed) return "CLOSED";
    if (this.#failure !== undefined) return "FAILED";
    return this.#all.find(({ state }) => state !== "OPEN")?.state ?? "OPEN";
  }

  override get inFlight(): number {
    return this.#all.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  override submit(calls: readonly OpCall[]): readonly Work<void>[] {
    const [first] = calls;
    if (first === undefined) return [];
    if (this.state !== "OPEN") return this.refuse(calls) ?? this.#ended(calls);
    const absent = calls.find(({ device }) => device.index >= this.#init.deviceCount);
    if (absent !== undefined) return this.#refuseDevice(absent, calls);
    try {
      if (calls.length > 1) return this.#submitBatch(calls);
      if (first.op === "refused") return this.#takeTurn(first);
      const isSingle = opTable[first.op].kind === "message" && !first.batched;
      if (isSingle) return this.#ofPeer(first).submit(calls);
      const device = this.#deviceOf(first);
      return this.#ofDevice(device, calls).submit(device === first.device ? calls : [placed(first, device)]);
    } catch (error) {
      return calls.map((call) => Work.rejected(error, { opType: opTypeOf(call) }));
    }
  }

  #submitBatch(calls: readonly OpCall[]): readonly Work<void>[] {
    const own = calls.filter(({ device }) => device.index >= 0);
    const device = own[0]?.device ?? this.#guessedDevice();
    const other = own.find((call) => call.device.index !== device.index)?.device;
    const here = own.length === calls.length ? calls : calls.map((call) => placed(call, device));
    if (other === undefined) return this.#ofDevice(device, calls).submit(here);
    throw new InvalidArgumentError(
      `Tensors must be on the same device: a batch has some on cuda:${device.index} and on cuda:${other.index}`,
      { argument: "tensors", backend: this.name, group: this.#context.groupName },
    );
  }

  /** The device of a call; a barrier need not have one. */
  #deviceOf({ device }: OpCall): Device {
    return device.index >= 0 ? device : this.#guessedDevice();
  }

  /** c10d's choice: the device that the group is bound to, the one that was used first, or one by the rank. */
  #guessedDevice(): Device {
    const { device, rank, logger } = this.#context;
    if (device.index >= 0) return device;
    const [used] = this.#ofDevices.keys();
    if (used !== undefined) return { type: device.type, index: used };
    const index = rank % this.#init.deviceCount;
    logger.warn(
      `a barrier without a device, before any other op: it uses cuda:${index}, by the rank, and hangs if that is not this ` +
        "rank's device. Pass deviceId to initProcessGroup(), or deviceIds to barrier()",
    );
    return { type: device.type, index };
  }

  /** Refuses calls as the process group refuses arguments: no communicator is begun. */
  #refuseDevice({ op, device }: OpCall, calls: readonly OpCall[]): readonly Work<void>[] {
    const { deviceCount } = this.#init;
    const last = deviceCount === 1 ? "only cuda:0" : `cuda:0 to cuda:${deviceCount - 1}`;
    const { api } = opTable[op];
    const error = new InvalidArgumentError(
      `${api}: there is no ${device.type}:${device.index}; this process has ${last}`,
      {
        op: api,
        argument: op === "barrier" ? "deviceIds" : "tensor",
        code: "NO_SUCH_DEVICE",
        backend: this.name,
        group: this.#context.groupName,
      },
    );
    if (calls.some((call) => opTable[call.op].kind === "collective")) {
      this.#takeTurn(opCall("refused", this.#context.device, NO_TENSORS, NO_TENSORS, Number.POSITIVE_INFINITY));
    }
    return calls.map((call) => Work.rejected(error, { opType: opTypeOf(call) }));
  }

  /** The place of a refused collective, where the others count theirs. */
  #takeTurn(call: OpCall): readonly Work<void>[] {
    const [communicator] = this.#ofDevices.values();
    return communicator?.submit([call]) ?? [Work.completed(undefined, { opType: OpType.UNKNOWN })];
  }

  #ofDevice(device: Device, calls: readonly OpCall[]): Communicator {
    const known = this.#ofDevices.get(device.index);
    if (known !== undefined) return known;
    const timeoutMs = Math.min(this.#context.timeoutMs, ...calls.map((call) => call.timeoutMs));
    const idKey = String(this.#counter++);
    const made = this.#communicator(`cuda:${device.index}`, idKey, device, timeoutMs, (signal) =>
      this.#init.connect({ device, idKey, pair: undefined, timeoutMs, signal }),
    );
    this.#ofDevices.set(device.index, made);
    return made;
  }

  #ofPeer({ op, device, peer, timeoutMs: opTimeoutMs }: OpCall): Communicator {
    const { rank, size, groupName } = this.#context;
    const pair: Pair = { low: Math.min(rank, peer), high: Math.max(rank, peer), size };
    const known = this.#ofPeers.get(peer);
    if (known !== undefined) {
      if (known.device.index === device.index) return known.communicator;
      throw new UnsupportedOperationError(
        `${op}: single messages with rank ${peer} are on cuda:${known.device.index} in group "${groupName}", this tensor is on cuda:${device.index}`,
        { op, backend: this.name, group: groupName, peers: [peer] },
      );
    }
    const timeoutMs = Math.min(this.#context.timeoutMs, opTimeoutMs);
    const idKey = pairKey(pair);
    const connect = async (signal: AbortSignal): Promise<Backend> => {
      try {
        return await this.#init.connect({ device, idKey, pair, timeoutMs, signal });
      } catch (error) {
        throw error instanceof DistError ? inGroup(error, pair) : error;
      }
    };
    const title = `cuda:${device.index}, for messages between ranks ${pair.low} and ${pair.high},`;
    const communicator = this.#communicator(title, idKey, device, timeoutMs, connect, pair);
    this.#ofPeers.set(peer, { device, communicator });
    return communicator;
  }

  #communicator(
    title: string,
    idKey: string,
    device: Device,
    limitMs: number,
    connect: (signal: AbortSignal) => Promise<Backend>,
    pair?: Pair,
  ): Communicator {
    const { groupName, rank, clock } = this.#context;
    const made = new Communicator({
      title,
      idKey,
      device,
      streams: this.#init.streams,
      limitMs,
      connect,
      pair,
      backend: this.name,
      group: groupName,
      rank,
      clock,
      onFailed: (reason) => this.#onFailed(made, reason, pair !== undefined),
    });
    if (this.#isTimed) made.enableTiming();
    return made;
  }

  /** What fails one communicator fails the group. */
  #onFailed(failed: Communicator, reason: string, isOfPair: boolean): void {
    if (this.#isClosed || this.#failure !== undefined) return;
    this.#failure = reason;
    this.#failed = failed;
    // The backend of all ranks has reported why.
    if (isOfPair || failed.backend === undefined) this.#init.report(reason);
    for (const each of this.#all) if (each !== failed) each.abort(reason);
    this.announceFailure(reason);
  }

  override refuse(calls: readonly OpCall[]): readonly Work<void>[] | undefined {
    if (this.#isClosed) return undefined;
    // It can say which ranks are at fault.
    return this.#failed?.backend?.refuse(calls);
  }

  #ended(calls: readonly OpCall[]): readonly Work<void>[] {
    const { groupName: group, rank } = this.#context;
    const [text, code] =
      this.#failure === undefined
        ? ["is closed", "GROUP_CLOSED"]
        : [`has failed before (${this.#failure})`, "GROUP_FAILED"];
    return calls.map((call) => {
      const op = opTable[call.op].api;
      const error = new DistBackendError(`${op}: group "${group}" ${text}`, {
        code,
        backend: this.name,
        group,
        rank,
        op,
      });
      return Work.rejected(error, { opType: opTypeOf(call) });
    });
  }

  /** Those of the communicator on the device of the memory, which an op there has to have made. */
  override get memoryServices(): MemoryServices {
    const of = ({ device }: TensorView): MemoryServices => {
      const services = this.#ofDevices.get(device.index)?.backend?.memoryServices;
      if (services !== undefined) return services;
      throw new UnsupportedOperationError(
        `group "${this.#context.groupName}" has no communicator on cuda:${device.index} that can do that: call an op there first, or pass deviceId to initProcessGroup()`,
        { backend: this.name, group: this.#context.groupName },
      );
    };
    const called =
      (name: Exclude<keyof MemoryServices, "addressInWindow">) => (memory: TensorView, timeoutMs: number) => {
        try {
          const work = of(memory)[name]?.(memory, timeoutMs);
          if (work !== undefined) return work;
          throw new UnsupportedOperationError(`this NCCL cannot do that: ${name}`, { backend: this.name });
        } catch (error) {
          return Work.rejected<void>(error, { opType: OpType.UNKNOWN });
        }
      };
    return {
      register: called("register"),
      deregister: called("deregister"),
      openWindow: called("openWindow"),
      closeWindow: called("closeWindow"),
      addressInWindow: (memory, rank) => of(memory).addressInWindow?.(memory, rank) ?? 0,
    };
  }

  override enableTiming(): void {
    this.#isTimed = true;
    for (const each of this.#all) each.enableTiming();
  }

  override abort(reason: string): void {
    if (this.#isClosed || this.#failure !== undefined) return;
    this.#failure = reason;
    this.#init.report(reason);
    for (const each of this.#all) each.abort(reason);
    this.announceFailure(reason);
  }

  override async drained(): Promise<void> {
    while (this.inFlight > 0) await Promise.all(this.#all.map((each) => each.drained()));
  }

  override async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const made = this.#all.filter(({ backend }) => backend !== undefined).map(({ idKey }) => idKey);
    await Promise.all([this.#init.leave(made), ...this.#all.map((each) => each.close())]);
  }
}

/** A call on a device, which it need not have. */
function placed(call: OpCall, device: Device): OpCall {
  return call.device.index === device.index
    ? call
    : { ...call, device, stream: call.stream ?? currentStreamOf(device) };
}
