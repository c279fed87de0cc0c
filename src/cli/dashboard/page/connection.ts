import type { Snapshot } from "./snapshot.ts";

/** How long to wait before it is tried again: longer each time. */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;
/** The launcher sends something at each look, which it makes more often than this. */
const SILENCE_MS = 5_000;

/** Why there are no snapshots: no launcher, one that does nothing, or one that has no place for another page. */
export type Loss = "gone" | "silent" | "full";

export interface ConnectionEvents {
  readonly onOpen: () => void;
  readonly onSnapshot: (snapshot: Snapshot) => void;
  /** There are no snapshots, and the job has not said that it ends. */
  readonly onLost: (loss: Loss) => void;
}

/** Gets snapshots from the launcher until the job has ended. A new connection begins with all that is still known. */
export function connect(events: ConnectionEvents, retryMs = FIRST_RETRY_MS): void {
  let isOver = false;
  let hasOpened = false;
  let silence: ReturnType<typeof setTimeout> | undefined;
  const socket = new WebSocket(new URL("events", location.href.replace(/^http/, "ws")));
  socket.addEventListener("open", () => {
    hasOpened = true;
    events.onOpen();
  });
  socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
    const snapshot = JSON.parse(data) as Snapshot;
    isOver = snapshot.end !== undefined;
    clearTimeout(silence);
    if (!isOver) silence = setTimeout(() => events.onLost("silent"), SILENCE_MS);
    events.onSnapshot(snapshot);
  });
  socket.addEventListener("close", async () => {
    clearTimeout(silence);
    if (isOver) return;
    events.onLost(!hasOpened && (await isServed()) ? "full" : "gone");
    const wait = hasOpened ? FIRST_RETRY_MS : retryMs;
    setTimeout(() => connect(events, Math.min(LAST_RETRY_MS, wait * 1.5)), wait);
  });
}

/** Whether the launcher still serves this page; a browser does not say why a connection was refused. */
async function isServed(): Promise<boolean> {
  try {
    return (await fetch(location.href, { method: "HEAD" })).ok;
  } catch {
    return false;
  }
}
