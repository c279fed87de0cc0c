import { TCPStoreServer } from "../../store/index.ts";
import { reportRefusals } from "../../store/tcp/server/refused-connections.ts";
import type { JobOutput } from "./job-output.ts";

/** Starts a store for ranks and reports what the user must know about who can use it. */
export async function openJobStore(
  where: { readonly host: string; readonly port: number; readonly secret: string | null },
  output: JobOutput,
  onLeave?: (peer: string) => void,
): Promise<TCPStoreServer> {
  const onDrop = reportRefusals((reason, peer, code) => {
    const hint = code === "SECRET_REQUIRED" ? " For ranks that use PyTorch, give --torch-compat." : "";
    void output.note(`c10d run: the client of the store at ${peer} was refused: ${reason}.${hint}\n`);
  });
  const server = await TCPStoreServer.listen({ ...where, onDrop, ...(onLeave && { onLeave }) });
  if (where.secret === null) {
    const { address, port } = server;
    await output.note(
      `c10d run: the store at ${address}:${port} speaks PyTorch's open protocol: anyone who can reach it can read and write it.\n`,
    );
  }
  return server;
}
