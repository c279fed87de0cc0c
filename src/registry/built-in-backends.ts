import type { LazyBackend } from "./plugin-source.ts";

/** The backends of the package itself. Each is loaded on first use. */
export const builtInBackends: readonly LazyBackend[] = [
  { name: "gloo", load: async () => (await import("../backends/gloo/plugin.ts")).default },
  { name: "ucc", load: async () => (await import("../backends/ucc/plugin.ts")).default },
  { name: "mpi", load: async () => (await import("../backends/mpi/plugin.ts")).default },
  { name: "nccl", load: async () => (await import("../backends/nccl/plugin.ts")).default },
  { name: "fake", load: async () => (await import("../backends/fake/plugin.ts")).default },
];
