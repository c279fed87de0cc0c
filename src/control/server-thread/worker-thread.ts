import { messageOf } from "../../errors/index.ts";
import { HttpServer, type ListenAddress } from "../http/http-server.ts";
import { MainLink } from "./main-link.ts";
import { Routes } from "./routes.ts";
import { StartReport } from "./start-report.ts";
import type { StartCommand } from "./thread-message.ts";
import { bindUnixSocket } from "./unix-socket.ts";

declare const self: Worker;

let stop: (() => void) | undefined;

async function start({ address, token, limits, port, report }: StartCommand): Promise<void> {
  const state = new StartReport(report);
  const routes = new Routes(new MainLink(port, limits), token);
  const listen = (at: ListenAddress) => new HttpServer(at, routes, limits);
  try {
    const server =
      "unix" in address ? await bindUnixSocket(address.unix, (path) => listen({ unix: path })) : listen(address);
    stop = () => {
      server.stop();
      state.stopped();
    };
    state.started(server.port);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    const text = messageOf(error);
    state.failed(code, code === "EEXIST" || text.includes(code) ? text : `${code}: ${text}`);
  }
}

self.onmessage = ({ data }: MessageEvent<StartCommand | { readonly kind: "stop" }>) => {
  if (data.kind === "start") void start(data);
  else stop?.();
};
