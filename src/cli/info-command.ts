import os from "node:os";
import packageJson from "../../package.json" with { type: "json" };
import { DistError } from "../errors/index.ts";
import { type Availability, type BackendRegistry, BackendType, registryOf } from "../registry/index.ts";
import { defineCommand } from "./command.ts";

/** A backend as `c10d info` shows it; `devices` is empty when its plugin cannot be loaded. */
type BackendInfo = Availability & {
  readonly name: string;
  readonly type: string;
  readonly devices: readonly string[];
};

/** `c10d info`: what this machine has. */
export const infoCommand = defineCommand({
  name: "info",
  summary: "Shows the package, the platform and which backends can run here, or what they lack.",
  flags: { json: { type: "boolean", description: "print JSON" } },
  async run(values) {
    const registry = registryOf();
    const info = {
      package: { name: packageJson.name, version: packageJson.version },
      bun: Bun.version,
      platform: { os: process.platform, arch: process.arch, release: os.release(), cpus: os.availableParallelism() },
      backends: await Promise.all(registry.names().map((name) => backendInfo(registry, name))),
    };
    if (values.json) {
      console.log(JSON.stringify(info, null, 2));
      return 0;
    }
    const { platform } = info;
    console.log(
      `${info.package.name} ${info.package.version}, Bun ${info.bun}, ` +
        `${platform.os} ${platform.arch} ${platform.release}, ${platform.cpus} CPUs\n\nBackends:\n` +
        info.backends.map(backendText).join("\n"),
    );
    return 0;
  },
});

async function backendInfo(registry: BackendRegistry, name: string): Promise<BackendInfo> {
  const type = BackendType[registry.typeOf(name)];
  try {
    const { devices } = await registry.get(name);
    return { name, type, devices, ...(await registry.probe(name)) };
  } catch (error) {
    if (!(error instanceof DistError)) throw error;
    const remedy = "reinstall the package";
    return { name, type, devices: [], available: false, reason: error.message, remedy };
  }
}

function backendText(backend: BackendInfo): string {
  const devices = backend.devices.length === 0 ? "" : ` for ${backend.devices.join(", ")}`;
  const head = `  ${backend.name} (${backend.type})${devices}: `;
  if (!backend.available) {
    return `${head}not available\n    ${indent(backend.reason)}\n    to do: ${indent(backend.remedy)}`;
  }
  const detail = backend.detail === undefined ? "" : `\n    ${indent(backend.detail)}`;
  return `${head}available, version ${backend.version}${detail}`;
}

function indent(text: string): string {
  return text.replaceAll("\n", "\n    ");
}
