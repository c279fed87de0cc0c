import * as dist from "../../src/index.ts";
import type { RankContext } from "../../src/testing/index.ts";
import { type Timing, timeOps } from "./timing.ts";

/** What each rank of a measurement gets. */
export interface TimingArguments {
  readonly devices: readonly string[];
  readonly sizes: readonly number[];
  readonly seconds: number;
}

/** A rank of a measurement. */
export default async function measure({ rank, args }: RankContext<TimingArguments>): Promise<Timing[]> {
  const [deviceId = "cuda:0"] = args.devices.slice(rank);
  dist.cuda.setDevice(deviceId);
  // Bound to the device, so that the communicator is made now and not at the first op.
  await dist.initProcessGroup({ backend: "nccl", deviceId, timeout: "60s" });
  const timings = await timeOps(args.sizes, args.seconds);
  await dist.destroyProcessGroup();
  return timings;
}
