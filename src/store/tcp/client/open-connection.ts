import { DistNetworkError } from "../../../errors/index.ts";
import { msUntil, startTimer } from "../../../time/index.ts";
import { proveToServer, secretRequired, secretRequiredAnswer, serverFull, serverFullMark } from "../wire/handshake.ts";
import type { OutputBuffer } from "../wire/output-buffer.ts";
import { dialectMark, identityMark, QueryType, validateMagic } from "../wire/protocol.ts";
import { type ReplyReader, readU32 } from "../wire/reply.ts";
import type { CallLimit } from "./call.ts";
import { Connection } from "./connection.ts";
import { connectFailed, nameOf, silentServer } from "./connection-errors.ts";
import type { Endpoint } from "./endpoint.ts";

/**
 * Connects and completes the handshake, within the limit.
 * @throws DistNetworkError when no store server listens there; DistTimeoutError `CONNECT_TIMEOUT`.
 */
export async function openConnection(endpoint: Endpoint, limit: CallLimit): Promise<Connection> {
  const { signal } = limit;
  signal?.throwIfAborted();
  const connection = new Connection(endpoint);
  const gaveUp = Promise.withResolvers<never>();
  gaveUp.promise.catch(() => {});
  const abort = () => gaveUp.reject(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  const timer = startTimer(msUntil(limit.deadline), () => gaveUp.reject(silentServer(endpoint, connection.attached)));
  const connected = connect(connection);
  try {
    await Promise.race([connected, gaveUp.promise]);
    await Promise.race([handshake(connection), gaveUp.promise]);
    return connection;
  } catch (error) {
    connected.catch(() => {}).finally(() => connection.close());
    throw error;
  } finally {
    timer[Symbol.dispose]();
    signal?.removeEventListener("abort", abort);
  }
}

async function connect(connection: Connection): Promise<void> {
  const { address, port } = connection.endpoint;
  try {
    const socket = await Bun.connect({
      hostname: address,
      port,
      socket: {
        open: (opened) => {
          opened.setNoDelay(true);
          opened.setKeepAlive(true, 30_000);
        },
        data: (_, chunk) => connection.receive(chunk),
        drain: () => connection.flush(),
        close: (_, error) => connection.lost(error),
        error: (_, error) => connection.lost(error),
        connectError: () => {},
      },
    });
    connection.attach(socket);
  } catch (cause) {
    throw connectFailed(connection.endpoint, cause);
  }
}

async function handshake(connection: Connection): Promise<void> {
  const { host, port, secret } = connection.endpoint;
  const server = { name: nameOf(connection.endpoint), host, port };
  const ask = <T>(write: (output: OutputBuffer) => void, reply: () => ReplyReader<T>) =>
    connection.request({ op: "connect", keys: [], repeatable: true, write, reply });
  if (secret) await proveToServer(secret, { server, request: (write, reader) => ask(write, () => reader) });
  const ping = (output: OutputBuffer, nonce: number) => {
    output.u8(QueryType.PING);
    output.u32(nonce);
  };
  const nonce = (dialectMark.ask | Math.floor(Math.random() * 0x1_0000)) >>> 0;
  const answer = await ask(
    (output) => {
      output.u8(QueryType.VALIDATE);
      output.u32(validateMagic);
      ping(output, nonce);
    },
    () => readU32,
  );
  if (answer === nonce) return;
  if (answer === (dialectMark.answer | (nonce & ~dialectMark.mask)) >>> 0) {
    connection.ownDialect = true;
    const parts = Array.from({ length: identityMark.parts }, (_, part) =>
      ask(
        (output) => ping(output, (identityMark.ask | part) >>> 0),
        () => readU32,
      ),
    );
    connection.serverIdentity = (await Promise.all(parts)).join(".");
    return;
  }
  if (answer === secretRequiredAnswer) throw secretRequired(server);
  if (answer === serverFullMark) throw serverFull(server);
  throw new DistNetworkError(
    `Ping failed, invalid value returned from server. Expected: ${nonce}, Got: ${answer}. Is the server at ${server.name} a c10d store?`,
    { code: "PROTOCOL_VIOLATION", host, port },
  );
}
