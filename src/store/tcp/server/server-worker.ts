import { DistError, messageOf } from "../../../errors/index.ts";
import { reportRefusals } from "./refused-connections.ts";
import { TCPStoreServer } from "./server.ts";
import type { ServerCommand, ServerEvent } from "./server-message.ts";

declare const self: Worker;

let server: TCPStoreServer | undefined;

function post(event: ServerEvent): void {
  self.postMessage(event);
}

async function execute(command: ServerCommand): Promise<void> {
  switch (command.kind) {
    case "listen":
      server = await TCPStoreServer.listen({
        ...command.options,
        onDrop: reportRefusals((reason, peer) => post({ kind: "refused", reason, peer })),
      });
      return post({ kind: "listening", address: server.address, port: server.port });
    case "drain":
      // Clients of the next job must not connect to this server.
      server?.stopListening();
      return post({ kind: "drained", id: command.id, empty: (await server?.drained(command.timeoutMs)) ?? true });
    case "close":
      await server?.close();
      return post({ kind: "closed" });
  }
}

self.onmessage = (event: MessageEvent<ServerCommand>) => {
  execute(event.data).catch((error: unknown) => {
    const message = messageOf(error);
    const known = error instanceof DistError ? error : undefined;
    const { name = "DistStoreError", code = "STORE_ERROR", details = {} } = known ?? {};
    post({ kind: "failed", name, message, code, details });
  });
};
