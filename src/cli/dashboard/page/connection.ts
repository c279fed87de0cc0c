import type { Snapshot } from "./snapshot.ts";

/** How long to wait before it is tried again. */
const RETRY_MS = 1_000;

export interface ConnectionEvents {
  readonly onOpen: () => void;
  readonly onSnapshot: (snapshot: Snapshot) => void;
  /** The launcher does not answer, and the job has not said that it ends. */
  readonly onLost: () => void;
}

/** Gets snapshots from the launcher until the job has ended. A new connection begins with all that is still known. */
export function connect(events: ConnectionEvents): void {
  let isOver = false;
  const socket = new WebSocket(new URL("events", location.href.replace(/^http/, "ws")));
  socket.addEventListener("open", () => events.onOpen());
  socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
    const snapshot = JSON.parse(data) as Snapshot;
    isOver = snapshot.end !== undefined;
    events.onSnapshot(snapshot);
  });
  socket.addEventListener("close", () => {
    if (isOver) return;
    events.onLost();
    setTimeout(() => connect(events), RETRY_MS);
  });
}
