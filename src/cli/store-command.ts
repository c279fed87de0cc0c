import { InvalidArgumentError } from "../errors/index.ts";
import { defineCommand } from "./command.ts";
import { parsePort } from "./port.ts";

/** `c10d store`: a store server that runs until a signal stops it. */
export const storeCommand = defineCommand({
  name: "store",
  summary: "Runs a TCP store server until SIGINT, SIGTERM or SIGHUP. The first line it prints is host:port.",
  notes:
    "With C10D_STORE_SECRET in the environment, clients must know that secret. Without it, the store speaks PyTorch's open\n" +
    "protocol, which PyTorch's clients need: anyone who can reach the port can then read and write the store. It warns if\n" +
    "other hosts may be able to reach it, and reports the first client that it refuses because of the secret.",
  flags: {
    host: {
      type: "string",
      value: "<host>",
      default: "127.0.0.1",
      description: "address to listen on; 0.0.0.0 or :: for all",
    },
    port: { type: "string", value: "<port>", default: "29500", description: "port to listen on; 0 for a free one" },
  },
  async run(values) {
    if (values.host === "") throw new InvalidArgumentError("--host must not be empty", { argument: "host" });
    const port = parsePort("port", values.port);
    const stopped = new Promise<void>((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
    });
    const [{ TCPStoreServer }, { hostPort, isLoopback }, { reportRefusals }, { environmentSecret }] = await Promise.all(
      [
        import("../store/index.ts"),
        import("../store/tcp/host-address.ts"),
        import("../store/tcp/server/refused-connections.ts"),
        import("../store/tcp/store-secret.ts"),
      ],
    );
    const secret = environmentSecret();
    const onDrop = reportRefusals((reason, peer) =>
      console.error(`c10d store: the client at ${peer} was refused: ${reason}.`),
    );
    const server = await TCPStoreServer.listen({ host: values.host, port, secret, onDrop });
    const place = hostPort(server.host, server.port);
    console.log(place);
    if (secret === null && !isLoopback(server.address)) {
      console.error(
        `c10d store: the store at ${place} speaks PyTorch's open protocol: anyone who can reach it can read and write it.`,
      );
    }
    await stopped;
    await server.close();
    return 0;
  },
});
