import os from "node:os";
import packageJson from "../../package.json" with { type: "json" };
import { processEnvironment, userVariables } from "../environment/index.ts";
import { DistError } from "../errors/index.ts";
import { ABI_VERSION } from "../native/abi.generated.ts";
import {
  type Availability,
  BACKEND_SDK_VERSION,
  type BackendRegistry,
  BackendType,
  type Capabilities,
  type DiscoveryFault,
  registryOf,
  type SettleLimit,
  systemClock,
} from "../registry/index.ts";
import { defineCommand } from "./command.ts";
import { shownValue } from "./env-command.ts";
import { infoText } from "./info-text.ts";

/** A backend as `c10d info --json` shows it; docs/backends.md describes it. */
export type BackendInfo = Availability & {
  readonly name: string;
  readonly type: string;
  /** `built in`, `registered`, or what named it. */
  readonly origin: string;
  /** Whether it was loaded and asked. Without `--probe`, what packages declare is not. */
  readonly probed: boolean;
  /** Empty, as the next four are `null`, when the plugin was not or cannot be loaded. */
  readonly devices: readonly string[];
  readonly sdk: number | null;
  readonly module: string | null;
  readonly bootstrap: string | null;
  readonly capabilities: Capabilities | null;
};

/** What `c10d info --json` prints. Fields are added in later versions, but none is taken away or changed. */
export interface Info {
  readonly package: { readonly name: string; readonly version: string };
  readonly sdk: number;
  readonly abi: number;
  readonly bun: string;
  readonly platform: {
    readonly os: string;
    readonly arch: string;
    readonly release: string;
    readonly cpus: number;
  };
  readonly backends: readonly BackendInfo[];
  /** Backends that were found but cannot be used. */
  readonly problems: readonly DiscoveryFault[];
  /** The variables of `c10d env` that are set. */
  readonly environment: Readonly<Record<string, string>>;
}

/** How long a backend may take to load, and to tell whether it can run: it must not keep the others from being shown. */
const probeLimit: SettleLimit = { limitMs: 5_000, clock: systemClock };

/** `c10d info`: what this machine has. */
export const infoCommand = defineCommand({
  name: "info",
  summary: "Shows the package, the platform and which backends can run here, or what they lack.",
  flags: {
    json: { type: "boolean", description: "print JSON, of the shape that docs/backends.md describes" },
    probe: {
      type: "boolean",
      description: "load the backends that packages declare, too, and ask whether they can run",
    },
  },
  async run(values) {
    const info = await gather(registryOf(), values.probe === true);
    console.log(values.json ? JSON.stringify(info, null, 2) : infoText(info));
    return 0;
  },
});

async function gather(registry: BackendRegistry, probe: boolean): Promise<Info> {
  const problems = await registry.discover();
  const set = userVariables.flatMap(([name, variable]) => {
    const value = shownValue(variable, processEnvironment[name]);
    return value === null ? [] : [[name, value] as const];
  });
  return {
    package: { name: packageJson.name, version: packageJson.version },
    sdk: BACKEND_SDK_VERSION,
    abi: ABI_VERSION,
    bun: Bun.version,
    platform: { os: process.platform, arch: process.arch, release: os.release(), cpus: os.availableParallelism() },
    backends: await Promise.all(registry.names().map((name) => backendInfo(registry, name, probe))),
    problems,
    environment: Object.fromEntries(set),
  };
}

const unknown = { devices: [], sdk: null, module: null, bootstrap: null, capabilities: null };

async function backendInfo(registry: BackendRegistry, name: string, probe: boolean): Promise<BackendInfo> {
  const origin = registry.originOf(name);
  const isOurs = origin === "built in";
  const probed = probe || isOurs || registry.isLoaded(name);
  const identity = { name, type: BackendType[registry.typeOf(name)], origin, probed };
  if (!probed) {
    const reason = "it was not asked: listing backends runs no code of the packages that declare them";
    return { ...identity, ...unknown, available: false, reason, remedy: "c10d info --probe loads and asks it" };
  }
  try {
    const { sdk = null, module = null, devices, bootstrap, capabilities } = await registry.get(name, probeLimit);
    const availability = await registry.probe(name, probeLimit);
    return { ...identity, devices, sdk, module, bootstrap, capabilities, ...availability };
  } catch (error) {
    if (!(error instanceof DistError)) throw error;
    const remedy = isOurs ? "reinstall the package" : `see to ${origin}`;
    return { ...identity, ...unknown, available: false, reason: error.message, remedy };
  }
}
