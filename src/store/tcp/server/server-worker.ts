import { DistError, messageOf } from "../../../errors/index.ts";
import { tellOfRefusals } from "./refused-connections.ts";
import { TCPStoreServer } from "./server.ts";
import type { ServerCommand, ServerEvent } from "./server-message.ts";

declare const self: Worker;

let server: TCPStoreServer | undefined;

function tell(event: ServerEvent): void {
  self.postMessage(event);
}

async function obey(command: ServerCommand): Promise<void> {
  switch (command.kind) {
    case "listen":
      server = await TCPStoreServer.listen({
        ...command.options,
        onDrop: tellOfRefusals((reason, peer) => tell({ kind: "refused", reason, peer })),
      });
      return tell({ kind: "listening", address: server.address, port: server.port });
    case "drain":
      // Clients of the next job must not connect to this server.
      server?.stopListening();
      return tell({ kind: "drained", id: command.id, empty: (await server?.drained(command.timeoutMs)) ?? true });
    case "close":
      await server?.close();
      return tell({ kind: "closed" });
  }
}

self.onmessage = (event: MessageEvent<ServerCommand>) => {
  obey(event.data).catch((error: unknown) => {
    const message = messageOf(error);
    const known = error instanceof DistError ? error : undefined;
    const { name = "DistStoreError", code = "STORE_ERROR", details = {} } = known ?? {};
    tell({ kind: "failed", name, message, code, details });
  });
};
