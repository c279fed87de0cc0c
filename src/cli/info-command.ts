import os from "node:os";
import packageJson from "../../package.json" with { type: "json" };
import { processEnvironment, userVariables } from "../environment/index.ts";
import { DistError } from "../errors/index.ts";
import { ABI_VERSION } from "../native/abi.generated.ts";
import {
  BACKEND_SDK_VERSION,
  type BackendRegistry,
  BackendType,
  registryOf,
  type SettleLimit,
  systemClock,
} from "../registry/index.ts";
import { defineCommand } from "./command.ts";
import { shownValue } from "./env-command.ts";
import type { BackendInfo, Info } from "./info.ts";
import { infoText } from "./info-text.ts";

/** Time limit for loading a backend, and for its probe, so that a slow one does not hold up the others. */
const probeLimit: SettleLimit = { limitMs: 5_000, clock: systemClock };

/** `c10d info`: the package, the platform and the backends on this machine. */
export const infoCommand = defineCommand({
  name: "info",
  summary: "Shows the package, the platform and which backends can run here, or why they cannot.",
  flags: {
    json: { type: "boolean", description: "print JSON, as described in docs/backends.md" },
    probe: {
      type: "boolean",
      description: "also load the backends that packages declare, and check whether they can run",
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
    const value = shownValue(variable, processEnvironment()[name]);
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
    const reason = "it was not probed: listing backends runs no code of the packages that declare them";
    return { ...identity, ...unknown, available: false, reason, remedy: "c10d info --probe loads and probes it" };
  }
  try {
    const { sdk = null, module = null, devices, bootstrap, capabilities } = await registry.get(name, probeLimit);
    const availability = await registry.probe(name, probeLimit);
    return { ...identity, devices, sdk, module, bootstrap, capabilities, ...availability };
  } catch (error) {
    if (!(error instanceof DistError)) throw error;
    const remedy = isOurs ? "reinstall the package" : `check ${origin}`;
    return { ...identity, ...unknown, available: false, reason: error.message, remedy };
  }
}
