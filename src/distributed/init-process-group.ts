import type { DependencyContainer } from "tsyringe";
import { requireOptionNames } from "../collectives/option-names.ts";
import { environmentText, getDebugLevel } from "../environment/index.ts";
import { captureCallSite, DistTimeoutError, explained, InvalidArgumentError } from "../errors/index.ts";
import { type ProcessGroup, throwFirst, writeTraceFiles } from "../process-group/index.ts";
import type { FlightRecorder } from "../recorder/index.ts";
import {
  type BackendType,
  checkBackendOptions,
  clockOf,
  defaultContainer,
  groupRank,
  loggerOf,
  middlewareOf,
  recorderOf,
  registryOf,
  requireContainer,
} from "../registry/index.ts";
import { MeetingMissed, type Rendezvous, whileAgreed } from "../rendezvous/index.ts";
import type { OwnStatus } from "../status/index.ts";
import { PrefixStore } from "../store/index.ts";
import { LimitedStore } from "../store/limited-store.ts";
import { cuda, type DeviceType, deviceOf } from "../tensor/index.ts";
import { defaultTimeoutMs, timeoutMs, WaitCounter, withLimit } from "../time/index.ts";
import { optionsFor, resolveBackends } from "./backend-config.ts";
import { defaultBackend } from "./default-backend.ts";
import { defaultTimeoutOf } from "./default-timeouts.ts";
import { currentContext, type DistContext, isOwnProcess, type World } from "./dist-context.ts";
import { type EarlyRank, earlyRank, openStatus } from "./early-status.ts";
import { type GroupPlan, makeGroup } from "./groups/make-group.ts";
import { nanCheckByEnvironment, nanOption } from "./groups/nan-option.ts";
import { type Making, whileMaking } from "./groups/while-making.ts";
import { joinIncarnation } from "./incarnation.ts";
import { type AnyInitOptions, type InitOptions, optionNames } from "./init-options.ts";
import { launchedWorld, meetLaunched } from "./launched-world.ts";
import { meet } from "./meet-by-options.ts";

const NONE_ABSENT: ReadonlyMap<DeviceType, string> = new Map<DeviceType, string>();
/** How long the rank that hosts the store waits for the others to leave it. */
const LEAVE_LIMIT_MS = 5_000;
/** The same at the end of an `await using` block, which may have thrown. */
const DISPOSE_LIMIT_MS = 100;
/** Time-out for checking in the store whether the meeting can still take place. */
const LOOK_LIMITS = { timeout: 5_000 };
/** How long leaving the store may take beyond that. */
const CLOSE_LIMIT_MS = 3_000;

/**
 * Meets the other ranks and connects to them; resolves to the default group when all are connected.
 *
 * @throws InvalidArgumentError (called twice, invalid arguments, invalid options with their path, differing world
 *   sizes), BackendUnavailableError, DistTimeoutError (`CONNECT_TIMEOUT`, naming host and port, or the backend or
 *   middleware that was not created in time), DistNetworkError.
 *
 * c10d: `init_process_group`.
 */
export async function initProcessGroup<const Name extends string = string>(
  options: InitOptions<Name> = {},
): Promise<ProcessGroup> {
  const [callSite, began] = [captureCallSite(), performance.now()];
  requireOptionNames("initProcessGroup", options, optionNames);
  const context = currentContext();
  if (context.world || context.initializing) {
    throw new InvalidArgumentError("trying to initialize the default process group twice!", {
      code: "ALREADY_INITIALIZED",
    });
  }
  context.initializing = true;
  const counter = WaitCounter.of("pytorch.wait_counter.c10d.init_process_group");
  const started = counter.start();
  try {
    const world = await makeWorld(context, options, { maker: "initProcessGroup", callSite, began });
    context.world = world;
    if (isOwnProcess(context)) groupRank(world.group.rank);
    return world.group;
  } catch (error) {
    throw explained("initProcessGroup", error);
  } finally {
    counter.stop(started);
    context.initializing = false;
  }
}

async function makeWorld(context: DistContext, options: AnyInitOptions, making: WorldPlan["making"]): Promise<World> {
  const named = options.backend ?? environmentText("C10D_BACKEND");
  const limitMs = timeoutMs(options.timeout, defaultTimeoutOf(named));
  // As PyTorch does on import: an invalid level must not pass as OFF.
  getDebugLevel();
  const container = options.container ?? defaultContainer();
  requireContainer("initProcessGroup", container);
  const boundDevice =
    options.deviceId === undefined
      ? undefined
      : deviceOf("initProcessGroup", options.deviceId, () => cuda.currentDevice());
  const parts = {
    logger: loggerOf(container),
    clock: clockOf(container),
    registry: registryOf(container),
    checkForNan: nanOption("initProcessGroup", options.checkForNan, nanCheckByEnvironment),
    middleware: middlewareOf(container),
    recorder: recorderOf(container),
  };
  let reported: string | undefined;
  const onNoStatus = (text: string): void => {
    if (text !== reported) parts.logger.warn(`this rank has no status record: ${text}`);
    reported = text;
  };
  const early = await earlyRank(options, onNoStatus);
  const recorded = early?.status?.record.making(making);
  try {
    return await meetAndConnect(context, options, {
      ...parts,
      named,
      container,
      boundDevice,
      limitMs,
      making,
      early,
      onNoStatus,
    });
  } catch (error) {
    early?.status?.close();
    throw error;
  } finally {
    recorded?.end();
  }
}

async function meetAndConnect(
  context: DistContext,
  options: AnyInitOptions,
  {
    named,
    ...parts
  }: Omit<WorldPlan, "plugins" | "options" | "terms" | "absent"> & {
    readonly named: string | BackendType | undefined;
  },
): Promise<World> {
  const { boundDevice, limitMs, early } = parts;
  // Before the rendezvous, so that a backend that cannot run here does not leave the other ranks waiting.
  const limit = { limitMs, clock: parts.clock, details: { group: "0" } };
  const { backend, absent } =
    named === undefined
      ? await defaultBackend(parts.registry, limit, optionsFor("nccl", options.options))
      : { backend: named, absent: NONE_ABSENT };
  const plugins = await resolveBackends(backend, parts.registry, limit, options.options);
  if (boundDevice !== undefined && !plugins.has(boundDevice.type)) {
    throw new InvalidArgumentError(
      `initProcessGroup: deviceId is a ${boundDevice.type} device, but no backend of the group takes ${boundDevice.type} tensors`,
      { argument: "deviceId" },
    );
  }
  const backendOptions = await checkBackendOptions(plugins.values(), options.options, limit);
  const making = {
    ...{ ...parts.making, group: "0", recorder: parts.recorder, logger: parts.logger },
    ...{ rank: early?.rank ?? -1, globalRank: early?.rank ?? -1 },
    timeoutMs: timeoutMs(options.timeout, defaultTimeoutMs.store),
    globalRanks: Array.from({ length: early?.worldSize ?? 0 }, (_, rank) => rank),
  };
  offerDump(early?.status, parts.recorder);
  const meeting = <T>(meets: () => Promise<T>) => whileMaking(making, early?.status, meets);
  const launched = await meeting(() => launchedWorld(plugins.values(), backendOptions, limit));
  const deadline = performance.now() + timeoutMs(options.timeout, defaultTimeoutMs.store);
  for (let timeout = options.timeout; ; timeout = Math.max(1, deadline - performance.now())) {
    const terms = timeout === undefined ? options : { ...options, timeout };
    const met = await meeting(() => (launched === undefined ? meet(terms) : meetLaunched(launched, terms, meet)));
    try {
      return await connect(context, met, { ...parts, absent, plugins, options: backendOptions, terms });
    } catch (error) {
      // The other ranks are meeting elsewhere.
      if (!(error instanceof MeetingMissed)) throw error;
    }
  }
}

/** What a world is made with. */
interface WorldPlan
  extends Pick<
    GroupPlan,
    | "plugins"
    | "absent"
    | "boundDevice"
    | "options"
    | "logger"
    | "clock"
    | "registry"
    | "checkForNan"
    | "middleware"
    | "recorder"
  > {
  readonly container: DependencyContainer;
  readonly limitMs: number;
  readonly terms: AnyInitOptions;
  readonly making: Pick<Making, "maker" | "callSite" | "began">;
  readonly early: EarlyRank | undefined;
  /** Called with the reason if this rank can have no status record. */
  readonly onNoStatus: (text: string) => void;
}

/** Lets the launcher have the flight recorder of a rank before it ends that, if the environment says where it goes. */
function offerDump(status: OwnStatus | undefined, recorder: FlightRecorder | undefined): void {
  if (status === undefined || recorder?.hasFiles !== true) return;
  const { rank: globalRank } = status;
  const what = `rank ${globalRank} is going to be ended`;
  status.record.offerDump(() => writeTraceFiles({ recorder, globalRank, what, logger: undefined }));
}

/** Connects to the ranks that have met. Throws MeetingMissed if that is no longer possible. */
async function connect(context: DistContext, met: Rendezvous, plan: WorldPlan): Promise<World> {
  const { container, plugins, limitMs, logger, clock, registry, checkForNan, middleware, recorder, terms } = plan;
  // A user's store may ignore time-outs.
  const store = LimitedStore.of(met.store);
  const groups = new Map<string, ProcessGroup>();
  const globalRanks = Array.from({ length: met.worldSize }, (_, rank) => rank);
  const storeDrain = { limitMs: DISPOSE_LIMIT_MS };
  // Async, so that what a user's rendezvous throws synchronously is a rejection, too, and replaces no other error.
  const leave = async (failed: boolean) => {
    const { limitMs: drainTimeout } = storeDrain;
    if (met.close === undefined) return;
    await withLimit(met.close({ drainTimeout, failed }), drainTimeout + CLOSE_LIMIT_MS, () => notClosed(drainTimeout));
  };
  const meeting = { rank: met.rank, worldSize: met.worldSize, attempt: Number(met.attempt || 0) };
  const limits = { timeout: timeoutMs(terms.timeout, defaultTimeoutMs.store) };
  // A backend that brings its ranks together by itself must not be called again for the same meeting.
  const byStore = [...plugins.values()].every(({ bootstrap }) => bootstrap === "store");
  let group: ProcessGroup | undefined;
  const early = plan.early?.status;
  let status = early;
  try {
    for (let follows = false; ; follows = true) {
      const abandoned = new AbortController();
      const incarnation = await joinIncarnation(store.until(abandoned.signal), meeting, limits, follows);
      const { rank, worldSize } = met;
      early?.join({ rank, worldSize, job: incarnation.job });
      status ??= await openStatus({
        ...{ rank, worldSize, job: incarnation.job },
        onFault: plan.onNoStatus,
      });
      offerDump(status, recorder);
      const attended = `${meeting.attempt}/${incarnation.number}`;
      const world = `${incarnation.job}/${attended}`;
      const base = terms.store === undefined ? new PrefixStore("default_pg", incarnation.store) : incarnation.store;
      const connecting = makeGroup({
        name: "0",
        description: "default_pg",
        rank: met.rank,
        globalRanks,
        timeoutMs: limitMs,
        plugins,
        boundDevice: plan.boundDevice,
        absent: plan.absent,
        store: base,
        options: plan.options,
        logger,
        clock,
        registry,
        checkForNan,
        middleware,
        recorder,
        world,
        status,
        onClose: async () => {
          if (group === undefined) return;
          if (context.world?.group === group) {
            context.world = undefined;
            if (isOwnProcess(context)) groupRank(undefined);
          }
          const others = [...groups.values()].filter((other) => other !== group);
          const ends = await Promise.allSettled(others.map((other) => other.close()));
          status?.close();
          throwFirst([...ends, ...(await Promise.allSettled([leave(false)]))]);
        },
      });
      let isSuperseded = false;
      const isMissed = async () => {
        isSuperseded = await incarnation.isSuperseded(LOOK_LIMITS);
        return isSuperseded || (await met.isOver?.(incarnation.number)) === true;
      };
      try {
        const making = {
          ...{ ...plan.making, group: "0", rank: met.rank, globalRanks },
          ...{ globalRank: met.rank, recorder, logger, timeoutMs: limitMs, world },
        };
        group = await whileMaking(making, status, () =>
          whileAgreed(store, met, connecting, byStore ? isMissed : undefined),
        );
        groups.set(group.name, group);
        void met.connected?.(incarnation.number);
        const agreement = Promise.resolve();
        return {
          id: world,
          group,
          store,
          base,
          meeting: attended,
          container,
          absent: plan.absent ?? NONE_ABSENT,
          status,
          storeDrain,
          groups,
          nextGroup: 1,
          agreement,
        };
      } catch (error) {
        // Ranks that disagree do not wait for their connections; if these are established, they are closed.
        connecting.then((late) => late.close()).catch(() => {});
        abandoned.abort(error);
        if (!isSuperseded) throw error;
      }
    }
  } catch (error) {
    // The original failure says more than what goes wrong afterwards.
    if (early === undefined) status?.close();
    await Promise.allSettled([leave(true)]);
    throw error;
  }
}

function notClosed(limitMs: number): DistTimeoutError {
  return new DistTimeoutError(
    `leaving the store took longer than ${Math.round(limitMs + CLOSE_LIMIT_MS)} ms: close() of its rendezvous does not return`,
    { code: "STORE_TIMEOUT", op: "close" },
  );
}

/**
 * Waits for the ops in flight, then closes the group; with the default group, closes all groups.
 *
 * @param group Defaults to the default group.
 * @throws InvalidArgumentError without a default group, DistTimeoutError when ops are still in flight after the group's
 *   time-out, and the error of a failed op that was not observed.
 *
 * c10d: `destroy_process_group`.
 */
export async function destroyProcessGroup(group?: ProcessGroup | null): Promise<void> {
  const context = currentContext();
  if (group === null) return;
  const world = context.require();
  if (group !== undefined && group !== world.group) {
    if (world.groups.get(group.name) !== group) {
      throw new InvalidArgumentError("Invalid process group specified", { argument: "group" });
    }
    world.groups.delete(group.name);
    await group.drain(group.timeoutMs);
    return;
  }
  const errors: unknown[] = [];
  world.storeDrain.limitMs = LEAVE_LIMIT_MS;
  // Newest first, the default group last: closing it also leaves the store.
  for (const each of [...world.groups.values()].reverse()) {
    await each.drain(each.timeoutMs).catch((error: unknown) => errors.push(error));
  }
  if (errors.length > 0) throw errors[0];
}
