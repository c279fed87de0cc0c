import { TCPStoreServer } from "../../store/index.ts";
import type { JobOutput } from "./job-output.ts";

/** Starts a store for ranks and tells what the user has to know about who can use it. */
export async function openJobStore(
  where: { readonly host: string; readonly port: number; readonly secret: string | null },
  output: JobOutput,
  onLeave?: (peer: string) => void,
): Promise<TCPStoreServer> {
  const onDrop = tellOfOpenClients(output);
  const server = await TCPStoreServer.listen({ ...where, onDrop, ...(onLeave && { onLeave }) });
  if (where.secret === null) {
    const { address, port } = server;
    await output.note(
      `c10d run: the store at ${address}:${port} speaks PyTorch's open protocol: whoever reaches it can read and write it.\n`,
    );
  }
  return server;
}

/** Tells once, what else would be a riddle, that a program was refused because it knows no secret. */
function tellOfOpenClients(output: JobOutput): (reason: string, peer: string, code: string) => void {
  let told = false;
  return (_, __, code) => {
    if (told || code !== "SECRET_REQUIRED") return;
    told = true;
    void output.note(
      "c10d run: a client of the store was refused: it speaks PyTorch's open protocol and the store of this job wants " +
        "its secret. For ranks that use PyTorch, give --torch-compat.\n",
    );
  };
}
