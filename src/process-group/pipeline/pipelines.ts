import type { OpCall } from "../../collectives/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";
import { BackendType } from "../../registry/index.ts";
import { ANY_INDEX, CPU, type Device, type DeviceType } from "../../tensor/index.ts";
import type { Pipeline } from "./pipeline.ts";

/** Names one backend of a group: by its device type, by the device itself, or by its backend type. */
export type BackendKey = DeviceType | Device | BackendType;

const EACH_DEVICE = 'make the group with a backend for each device, for instance "cpu:gloo,cuda:nccl"';

/** The pipelines of a group, one for each device. */
export class Pipelines {
  readonly all: readonly Pipeline[];
  readonly #group: string;
  readonly #cpu: Pipeline | undefined;
  readonly #absent: ReadonlyMap<DeviceType, string>;

  /** @param absent Why it has no backend for these types of device, where that was not the user's choice. */
  constructor(
    group: string,
    pipelines: readonly Pipeline[],
    absent: ReadonlyMap<DeviceType, string> = new Map<DeviceType, string>(),
  ) {
    this.#group = group;
    this.#absent = absent;
    this.all = pipelines;
    this.#cpu = pipelines.find(({ device }) => device.type === "cpu");
  }

  /** The pipeline for calls without tensors: that of the CPU, or the first. */
  get default(): Pipeline {
    const found = this.#cpu ?? this.all[0];
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`group "${this.#group}" has no backend`, { group: this.#group });
  }

  /** Device of calls without tensors. */
  get defaultDevice(): Device {
    return (this.#cpu ?? this.all[0])?.device ?? CPU;
  }

  /** The pipeline for an op that exchanges host memory. @throws InvalidArgumentError if there is none. */
  forHost(op: string): Pipeline {
    if (this.#cpu !== undefined) return this.#cpu;
    throw new InvalidArgumentError(
      `${op}: group "${this.#group}" has no backend for cpu tensors (it has ${this.#names()}), and this op exchanges host memory; ` +
        EACH_DEVICE,
      { op, group: this.#group },
    );
  }

  /** The pipeline for a call. @throws InvalidArgumentError if the group has no backend for its device. */
  forCall({ device, inputs, outputs, op }: OpCall): Pipeline {
    if (device.type === "cpu" && this.#cpu !== undefined) {
      const hasTensors = inputs.length > 0 || outputs.length > 0;
      return hasTensors ? this.#cpu : this.default;
    }
    if (inputs.length === 0 && outputs.length === 0 && device === this.defaultDevice) return this.default;
    const found = this.#find(device);
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`${op}: ${this.#lack(device)}`, { op, group: this.#group });
  }

  /** The pipeline for memory of a device. @throws InvalidArgumentError if there is none. */
  forMemory(op: string, device: Device): Pipeline {
    const found = this.#find(device);
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`${op}: ${this.#lack(device)}`, { op, group: this.#group, argument: "tensor" });
  }

  /** That the group has no backend for tensors of a device, and what to do about it. */
  #lack(device: Device): string {
    const lack = `group "${this.#group}" has no backend for ${this.#nameOf(device)} tensors (it has ${this.#names()})`;
    return `${lack}: ${this.#remedy(device)}`;
  }

  #remedy({ type }: Device): string {
    const bound = this.all.find(({ device }) => device.type === type)?.device;
    if (bound !== undefined) {
      return (
        `it is bound to ${bound.type}:${bound.index}, which deviceId does not make the current device: call ` +
        "cuda.setDevice(group.boundDevice), or make its tensors with { device: group.boundDevice }"
      );
    }
    const reason = this.#absent.get(type);
    if (reason !== undefined) return reason;
    const copy =
      type === "cuda" ? "copy the tensor to the host by toHost()" : "copy the tensor to a device by cuda.from()";
    return `${copy}, or ${EACH_DEVICE}`;
  }

  /** @throws InvalidArgumentError if there is none. */
  of(key: BackendKey): Pipeline {
    const found =
      typeof key === "object"
        ? this.#find(key)
        : this.all.find(({ device, plugin }) => device.type === key || plugin.type === key);
    if (found !== undefined) return found;
    const text =
      typeof key === "object"
        ? `for ${this.#nameOf(key)} tensors`
        : typeof key === "number"
          ? `of type ${BackendType[key]}`
          : `for ${key} tensors`;
    throw new InvalidArgumentError(`group "${this.#group}" has no backend ${text}`, { group: this.#group });
  }

  #find({ type, index }: Device): Pipeline | undefined {
    return this.all.find(
      ({ device }) => device.type === type && (device.index === index || device.index === ANY_INDEX),
    );
  }

  /** With its index if the group has another device of its type. */
  #nameOf({ type, index }: Device): string {
    return this.all.some(({ device }) => device.type === type) ? `${type}:${index}` : type;
  }

  #names(): string {
    return this.all
      .map(({ device: { type, index } }) => (type === "cpu" || index === ANY_INDEX ? type : `${type}:${index}`))
      .join(", ");
  }
}
