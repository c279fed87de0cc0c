import type { MessagePort } from "node:worker_threads";
import type { CarriedCall, CarriedTensor } from "./carried-call.ts";
import type { Failure } from "./exchange-port.ts";
import type { MeetingOutcome } from "./meeting.ts";

/** What a Worker needs to reach the thread in which the ranks exchange their data. */
export interface WorkerSlot {
  readonly port: MessagePort;
  /** One 32-bit word that counts the messages to the Worker, which can wait for it to change. */
  readonly bell: SharedArrayBuffer;
  /** Name of the coordinator. */
  readonly place: string;
}

/** A message from a Worker to the coordinator. `token` names the group, `op` an op of this Worker in it. */
export type ToCoordinator = { readonly token: string; readonly rank: number } & (
  | { readonly kind: "meet"; readonly size: number; readonly seed: number | undefined; readonly timeoutMs: number }
  | {
      readonly kind: "enter";
      readonly op: number;
      readonly round: number;
      readonly timeoutMs: number;
      readonly call: CarriedCall;
    }
  | {
      readonly kind: "send" | "recv";
      readonly op: number;
      readonly timeoutMs: number;
      readonly peer: number;
      readonly tag: number;
      readonly tensor: CarriedTensor;
    }
  | { readonly kind: "timeout"; readonly op: number }
  | { readonly kind: "abort"; readonly text: string }
  | { readonly kind: "refuse" }
  | { readonly kind: "leave" }
);

/** A message from the coordinator to a Worker. */
export type ToWorker = { readonly token: string } & (
  | { readonly kind: "outcome"; readonly outcome: MeetingOutcome }
  | {
      readonly kind: "deliver";
      readonly op: number;
      readonly bytes: readonly Uint8Array<ArrayBuffer>[];
      readonly source: number;
    }
  | { readonly kind: "failure"; readonly failure: Failure }
);
