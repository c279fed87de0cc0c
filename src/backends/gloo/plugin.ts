import { loadShim } from "../../native/index.ts";
import { type BackendPlugin, BackendType } from "../../registry/index.ts";
import { NativeBackend } from "../native/native-backend.ts";
import { probeShim } from "../native/probe-shim.ts";
import { listenAddresses } from "./address.ts";
import { capabilities } from "./capabilities.ts";
import type { GlooOptions } from "./options.ts";

const NAME = "gloo";
const REMEDY =
  "Install libgloo and build the shim: bun c10d build, or in a clone ./bootstrap build (on Debian and Ubuntu: apt-get install libgloo-dev g++ cmake ninja-build).";

/** Gloo: collectives of CPU tensors over TCP, with the machine's own libgloo; PyTorch's default on CPUs. */
const plugin: BackendPlugin<GlooOptions> = {
  name: NAME,
  type: BackendType.GLOO,
  sdk: 2,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities,

  probe: () => probeShim(() => loadShim({ name: NAME, remedy: "" }), REMEDY),

  async options() {
    return (await import("./options-schema.ts")).schema;
  },

  async create(context) {
    const { options } = context;
    const shim = loadShim({ name: NAME, remedy: REMEDY });
    const host = listenAddresses(context, options).join(",");
    const settings = { host, ...(options.threads !== undefined && { threads: String(options.threads) }) };
    return NativeBackend.connect(shim, context, settings, capabilities);
  },
};

export default plugin;
