import { environmentInteger } from "../../environment/index.ts";
import { BackendUnavailableError, InvalidArgumentError } from "../../errors/index.ts";
import { loadShim } from "../../native/index.ts";
import { type BackendContext, type BackendPlugin, BackendType } from "../../registry/index.ts";
import { probe as probeCuda } from "../../tensor/cuda/index.ts";
import { StartGate, StreamMark } from "../../tensor/cuda/start-gate.ts";
import { type ConnectSplit, type ConnectTerms, NativeBackend } from "../native/native-backend.ts";
import { NativeFailures } from "../native/native-failures.ts";
import type { OpStreams } from "../native/op-streams.ts";
import { capabilities, capabilitiesOf } from "./capabilities.ts";
import { connectLazily } from "./connect-lazily.ts";
import { Departures } from "./departures.ts";
import { LazyBackend } from "./lazy-backend.ts";
import { loadNccl } from "./nccl-library.ts";
import type { NcclOptions } from "./options.ts";
import { PairStore } from "./pair-store.ts";
import { NO_DEVICE, probeNccl, SHIM_REMEDY } from "./probe-nccl.ts";
import { RollCallStore } from "./roll-call-store.ts";
import { settingsOf } from "./settings.ts";
import { withDeviceRemedy } from "./shared-device.ts";
import { watchAddress } from "./watch-address.ts";

const NAME = "nccl";
/** NCCL's ranks do not notice that another one has aborted. */
const LOOK_EVERY_MS = 1_000;
/** The key under which PyTorch's rank 0 publishes the unique id of its first communicator. */
const FIRST_KEY = "0";

/** NCCL: collectives of CUDA tensors over NVLink, PCIe and the network, with the machine's own libnccl. */
const plugin: BackendPlugin<NcclOptions> = {
  name: NAME,
  type: BackendType.NCCL,
  sdk: 2,
  module: import.meta.url,
  devices: ["cuda"],
  anyDevice: true,
  bootstrap: "store",
  capabilities,

  probe: async (options) => probeNccl(libraryOf(options)),

  async options() {
    return (await import("./options-schema.ts")).schema;
  },

  async create(context) {
    const isBound = context.device.index >= 0;
    const isEager = requireEager(context, isBound);
    const deviceCount = requireDevice(context);
    const { version } = loadNccl(context.options.library);
    const shim = loadShim({ name: NAME, remedy: SHIM_REMEDY });
    const own = capabilitiesOf(version);
    const lookEveryMs = environmentInteger("TORCH_NCCL_COORD_CHECK_MILSEC") || LOOK_EVERY_MS;
    const make = async (place: BackendContext<NcclOptions>, terms: ConnectTerms, idKey = FIRST_KEY) => {
      const isMember = (terms.splitFrom?.color ?? 0) >= 0;
      const watch = isMember ? await watchOf(place, idKey) : { context: place, settings: {} };
      const all = { ...settingsOf(place, version), ...watch.settings, "id-key": idKey };
      try {
        return await NativeBackend.connect(shim, watch.context, all, own, { ...terms, lookEveryMs });
      } catch (error) {
        throw withDeviceRemedy(error);
      }
    };
    if (isEager) return splittable(await make(context, {}), (of, splitFrom) => make(of, { splitFrom }));
    const departures = new Departures(context);
    const connect = connectLazily(context, departures, NAME, ({ device, idKey, pair, timeoutMs }, signal) => {
      const all = { ...context, device, timeoutMs };
      const place = pair === undefined ? all : { ...all, ...amongTwo(context, pair.low, pair.high, idKey) };
      return make(place, { signal }, idKey);
    });
    const failures = new NativeFailures(NAME, context);
    const leave = (made: readonly string[]): Promise<void> => departures.leave(made);
    const report = (reason: string): void => void failures.report(reason);
    return new LazyBackend(context, { name: NAME, capabilities: own, connect, report, leave, streams, deviceCount });
  },
};

const streams: OpStreams = {
  mark: (stream) => new StreamMark(stream),
  gate: (device) => new StartGate(device),
};

/** The path of the library among options that are not checked yet. */
function libraryOf(options: unknown): string | undefined {
  const { library } = (options ?? {}) as Partial<Record<keyof NcclOptions, unknown>>;
  return typeof library === "string" && library !== "" ? library : undefined;
}

/** Lets groups be split from a backend, and from those in turn. */
function splittable(backend: NativeBackend, connect: ConnectSplit): NativeBackend {
  backend.offerSplit(async (context, splitFrom) => splittable(await connect(context, splitFrom), connect), streams);
  return backend;
}

/** Whether the communicator is to be made now. */
function requireEager({ options, device, groupName: group }: BackendContext<NcclOptions>, isBound: boolean): boolean {
  const { eager = isBound } = options;
  if (!eager || isBound) return eager;
  throw new InvalidArgumentError(
    `nccl: options.eager needs a device: pass deviceId to initProcessGroup(), such as "${device.type}:0"`,
    { argument: "eager", backend: NAME, group },
  );
}

/** Number of devices of this process, among which is that of the group. */
function requireDevice({ device, groupName: group }: BackendContext): number {
  const { available, devices, reason, code, remedy } = probeCuda();
  const count = devices.length;
  if (!available) {
    const text = `${NO_DEVICE} ${reason}${remedy === undefined ? "" : `\n${remedy}`}`;
    throw new BackendUnavailableError(text, { backend: NAME, group, ...(code !== undefined && { code }) });
  }
  if (device.index < count) return count;
  throw new InvalidArgumentError(
    `nccl: deviceId is cuda:${device.index}, but this process has ${count} CUDA ${count === 1 ? "device" : "devices"}`,
    { argument: "deviceId", backend: NAME, group },
  );
}

/** With which the ranks of a communicator watch whether the others are still there, unless some are PyTorch's. */
async function watchOf(
  context: BackendContext<NcclOptions>,
  idKey: string,
): Promise<{ readonly context: BackendContext<NcclOptions>; readonly settings: Readonly<Record<string, string>> }> {
  const { rank, size, timeoutMs } = context;
  if (size === 1) return { context, settings: {} };
  const key = `watch/${idKey}`;
  const store = new RollCallStore(context.store, key, size);
  await store.answer(rank, { timeout: timeoutMs });
  return { context: { ...context, store }, settings: { "watch-key": key, host: watchAddress(context) } };
}

/** What is different in the communicator of two ranks. */
function amongTwo(
  { rank, globalRanks, store }: BackendContext,
  low: number,
  high: number,
  idKey: string,
): Pick<BackendContext, "rank" | "size" | "globalRanks" | "store"> {
  const ranks = [low, high];
  return {
    rank: ranks.indexOf(rank),
    size: ranks.length,
    globalRanks: ranks.map((each) => globalRanks[each] ?? -1),
    store: new PairStore(store, idKey),
  };
}

export default plugin;
