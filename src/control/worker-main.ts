import { environmentText } from "../environment/index.ts";
import { WorkerServer, type WorkerServerOptions } from "./worker-server.ts";

/**
 * Runs the main function of a worker. With `TORCH_WORKER_SERVER_SOCKET` in the environment, a {@link WorkerServer} listens
 * on the Unix socket of that path meanwhile.
 *
 * ```ts
 * await workerMain(async () => {
 *   await using group = await dist.initProcessGroup();
 * });
 * ```
 *
 * @throws what `main` throws, and what {@link WorkerServer} does.
 *
 * c10d: `torch.distributed.elastic.control_plane.worker_main`.
 */
export async function workerMain<T>(main: () => T | Promise<T>, options: WorkerServerOptions = {}): Promise<T> {
  const path = environmentText("TORCH_WORKER_SERVER_SOCKET");
  using _server = path === undefined ? undefined : new WorkerServer(path, -1, options);
  return await main();
}
