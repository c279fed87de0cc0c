import { processEnvironment } from "../../environment/index.ts";
import { loadShim } from "../../native/index.ts";
import { type BackendPlugin, BackendType } from "../../registry/index.ts";
import { NativeBackend } from "../native/native-backend.ts";
import { probeShim } from "../native/probe-shim.ts";
import { watchAddress } from "./address.ts";
import { capabilities } from "./capabilities.ts";

const NAME = "ucc";
const REMEDY =
  "Install libucc and build the shim: bun c10d build, or in a clone ./bootstrap build (Debian 14 and later: apt-get install " +
  "libucc-dev g++ cmake ninja-build; on older ones, in a clone, run Bun by .tools/ucc/bun, which ./bootstrap ucc makes).";
/** The variables by which UCC and UCX are configured here. */
function settings(): string {
  const variables = new Map(Object.entries(processEnvironment()));
  const names = [...variables.keys()].filter((name) => /^UC[CX]_/.test(name));
  return names
    .sort()
    .map((name) => `${name}=${variables.get(name)}`)
    .join(" ");
}

/** UCC: collectives of CPU tensors over shared memory on one host, InfiniBand, RoCE or TCP between hosts, by libucc. */
const plugin: BackendPlugin = {
  name: NAME,
  type: BackendType.UCC,
  sdk: 2,
  module: import.meta.url,
  devices: ["cpu"],
  bootstrap: "store",
  capabilities,

  probe: () => probeShim(() => loadShim({ name: NAME, remedy: "" }), REMEDY, settings()),

  async create(context) {
    const settings = { host: watchAddress(context) };
    return NativeBackend.connect(loadShim({ name: NAME, remedy: REMEDY }), context, settings, capabilities);
  },
};

export default plugin;
