import { type Availability, type BackendPlugin, BackendType } from "../../registry/index.ts";
import { capabilities } from "./capabilities.ts";
import { LocalBackend } from "./local-backend.ts";
import type { FakeOptions } from "./options.ts";
import { SoloBackend } from "./solo-backend.ts";

/** Collectives without a network or a native library: among ranks of one process, or of one rank without peers. */
const plugin: BackendPlugin<FakeOptions> = {
  name: "fake",
  type: BackendType.CUSTOM,
  sdk: 2,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities,

  probe(): Promise<Availability> {
    return Promise.resolve({ available: true, version: "1.0", detail: "in this process" });
  },

  async options() {
    return (await import("./options-schema.ts")).schema;
  },

  async create(context) {
    const { options } = context;
    if (options.mode === "solo") return new SoloBackend(context, options, this.capabilities);
    return LocalBackend.connect(context, options.seed, this.capabilities);
  },
};

export default plugin;
