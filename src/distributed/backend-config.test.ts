import { describe, expect, test } from "bun:test";
import { BackendUnavailableError, InvalidArgumentError } from "../errors/index.ts";
import { memoryPlugin } from "../process-group/fixtures/memory-backend.ts";
import { BackendRegistry, BackendType } from "../registry/index.ts";
import { resolveBackends } from "./backend-config.ts";

const registry = new BackendRegistry();
registry.register(memoryPlugin("host"));
registry.register(memoryPlugin("device", { devices: ["cuda"] }));
registry.register(memoryPlugin("both", { devices: ["cpu", "cuda"] }));
registry.register(
  memoryPlugin("absent", {
    probe: () => Promise.resolve({ available: false, reason: "libabsent.so is missing", remedy: "Install libabsent." }),
  }),
);

registry.register(memoryPlugin("gloo", { type: BackendType.GLOO }));

async function resolved(backend: string | BackendType): Promise<Record<string, string>> {
  const plugins = await resolveBackends(backend, registry);
  return Object.fromEntries([...plugins].map(([device, plugin]) => [device, plugin.name]));
}

describe("backend strings", () => {
  test.each<[string | BackendType, Record<string, string>]>([
    [BackendType.GLOO, { cpu: "gloo" }],
    ["host", { cpu: "host" }],
    [" host ", { cpu: "host" }],
    ["HOST", { cpu: "host" }],
    ["device", { cuda: "device" }],
    ["both", { cpu: "both", cuda: "both" }],
    ["cpu:host", { cpu: "host" }],
    ["cpu:host,cuda:device", { cpu: "host", cuda: "device" }],
    ["CUDA:both , cpu:host", { cuda: "both", cpu: "host" }],
  ])("%p", async (backend, expected) => {
    expect(await resolved(backend)).toEqual(expected);
  });

  test.each<[string | undefined | number, string]>([
    ["", "backend must be a name such as"],
    ["  ", "backend must be a name such as"],
    [5, "BackendType.CUSTOM does not identify a backend"],
    [99, "number 99 does not identify a backend"],
    [undefined, "got undefined"],
    ["cpu:", 'Invalid device:backend pairing: "cpu:"'],
    [":host", 'Invalid device:backend pairing: ":host"'],
    ["tpu:host", 'Invalid device:backend pairing: "tpu:host"'],
    ["cpu:host,", 'Invalid device:backend pairing: ""'],
    ["cpu:host,device", 'Invalid device:backend pairing: "device"'],
    ["cpu:host:device", 'Invalid device:backend pairing: "cpu:host:device"'],
    ["cpu:host,cpu:both", "Duplicate device type cpu in backend string: cpu:host,cpu:both"],
    ["cuda:host", 'backend "host" does not take cuda tensors (it takes cpu)'],
  ])("%p is refused", async (backend, message) => {
    const error = await resolveBackends(backend as string, registry).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect((error as Error).message).toContain(message);
  });

  test.each<[string, string]>([
    ["other", 'unknown backend "other": known are host, device, both, absent, gloo'],
    ["cpu:other", 'unknown backend "other"'],
    ["host,device", 'unknown backend "host,device"'],
    ["absent", 'backend "absent" cannot run here: libabsent.so is missing\nInstall libabsent.'],
    ["cpu:absent", "libabsent.so is missing"],
  ])("%p is not available", async (backend, message) => {
    const error = await resolveBackends(backend, registry).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(BackendUnavailableError);
    expect((error as Error).message).toContain(message);
  });
});

describe("what probe() of a plugin gets", () => {
  const asked: unknown[] = [];
  const asking = new BackendRegistry();
  for (const [name, device] of [
    ["first", "cpu"],
    ["second", "cuda"],
  ] as const) {
    const probe = (options?: unknown) => {
      asked.push([name, options]);
      return Promise.resolve({ available: true as const, version: "1" });
    };
    asking.register(memoryPlugin(name, { devices: [device], probe }));
  }
  const [one, two] = [{ library: "/a" }, { library: "/b" }];

  test.each<[string, unknown, unknown[]]>([
    ["first", one, [["first", one]]],
    ["cuda:second", two, [["second", two]]],
    [
      "cpu:first,cuda:second",
      { second: two },
      [
        ["first", undefined],
        ["second", two],
      ],
    ],
    ["first", undefined, [["first", undefined]]],
  ])("is what the user passed for it: %s", async (backend, options, expected) => {
    asked.length = 0;
    await resolveBackends(backend, asking, undefined, options);
    expect(asked).toEqual(expected);
  });
});
