import { messageOf } from "../../errors/index.ts";
import { HttpServer, type ListenAddress } from "../http/http-server.ts";
import { MainLink } from "./main-link.ts";
import { Routes } from "./routes.ts";
import { StartReport } from "./start-report.ts";
import type { StartCommand } from "./thread-message.ts";
import { UnixSocket } from "./unix-socket.ts";

declare const self: Worker;

let stop: (() => void) | undefined;

function start({ address, token, limits, port, report }: StartCommand): void {
  const state = new StartReport(report);
  const routes = new Routes(new MainLink(port, limits), token);
  const listen = (at: ListenAddress) => new HttpServer(at, routes, limits);
  try {
    if ("unix" in address) {
      const { server, socket } = UnixSocket.bind(address.unix, (path) => listen({ unix: path }));
      stop = () => {
        socket.remove();
        server.stop();
        state.stopped();
      };
      state.started(-1);
    } else {
      const server = listen(address);
      stop = () => {
        server.stop();
        state.stopped();
      };
      state.started(server.port);
    }
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    const text = messageOf(error);
    state.failed(code, text.includes(code) ? text : `${code}: ${text}`);
  }
}

self.onmessage = ({ data }: MessageEvent<StartCommand | { readonly kind: "stop" }>) => {
  if (data.kind === "start") start(data);
  else stop?.();
};
