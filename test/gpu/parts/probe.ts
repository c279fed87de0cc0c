// What the backend's probe() says here; all other parts need that it is available.

import { loadNccl } from "../../../src/backends/nccl/nccl-library.ts";
import nccl from "../../../src/backends/nccl/plugin.ts";
import { cuda } from "../../../src/index.ts";
import { runPart } from "../part.ts";

await runPart(async () => {
  const availability = await nccl.probe();
  if (!availability.available) return { outcome: "failed", lines: [availability.reason, availability.remedy] };
  const { version, detail = "" } = availability;
  const { devices } = cuda.probe();
  return {
    outcome: "passed",
    lines: [version, detail],
    figures: { ...availability, devices },
    facts: { devices: devices.map(({ name }) => name), nccl: loadNccl().version },
  };
});
