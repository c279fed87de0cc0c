import { printable } from "../../errors/index.ts";
import { durationText } from "../../time/index.ts";
import { hasEnded, type TraceOp } from "../rank-trace.ts";
import { errorText, groupText, opText, sitesText, sizesText } from "../text/op-text.ts";
import { type Channel, channelsOf } from "./channels.ts";
import type { Finding } from "./finding.ts";
import type { GroupTraces } from "./group-traces.ts";
import type { Job } from "./job.ts";
import { lastCallText } from "./last-op-text.ts";
import { dtypesOf, numel } from "./signature.ts";

/** What is wrong with the messages of a group, what is in flight, and what has been sent and not received. */
export interface MessageFindings {
  readonly findings: readonly Finding[];
  readonly inFlight: readonly string[];
  readonly notes: readonly string[];
}

/** Pairs sends with recvs. */
export function checkMessages(traces: GroupTraces, job: Job): MessageFindings {
  const check = new MessageCheck(traces, job);
  for (const channel of channelsOf(traces.members)) check.channel(channel);
  check.fromAnyRank();
  return check;
}

class MessageCheck implements MessageFindings {
  readonly findings: Finding[] = [];
  readonly inFlight: string[] = [];
  readonly notes: string[] = [];
  readonly #traces: GroupTraces;
  readonly #job: Job;
  /** Pending recvs from any rank, by the rank that called them. */
  readonly #open: ReadonlyMap<number, readonly TraceOp[]>;

  readonly #isPending = new Set<number>();

  constructor(traces: GroupTraces, job: Job) {
    this.#traces = traces;
    this.#job = job;
    this.#open = new Map(
      [...traces.members].map(([rank, { messages }]) => [
        rank,
        messages.filter((op) => op.message !== undefined && op.message.source < 0),
      ]),
    );
  }

  channel(channel: Channel): void {
    const { source, destination, tag, messages } = channel;
    let unreceived = 0;
    const alone: { readonly rank: number; readonly op: TraceOp; readonly peer: number }[] = [];
    for (const { send, recv } of messages) {
      if (send !== undefined && recv !== undefined) this.#compare(channel, send, recv);
      else if (send !== undefined && send.state === "completed") unreceived++;
      else if (send !== undefined) alone.push({ rank: source, op: send, peer: destination });
      else if (recv !== undefined) alone.push({ rank: destination, op: recv, peer: source });
    }
    // Those that come later wait for the same.
    const waiting = alone.filter(({ op }) => op.state !== "ended" && op.state !== "completed");
    const first = waiting.find(({ op }) => op.state === "failed") ?? waiting[0];
    if (first !== undefined) this.#alone(first.rank, first.op, first.peer, tag, waiting.length - 1);
    const lost = (this.#job.trace(destination)?.dropped ?? 0) > 0 && messages.every(({ recv }) => recv === undefined);
    if (unreceived === 0 || lost || !this.#recordsMessages(destination)) return;
    const what = unreceived === 1 ? "a message" : `${unreceived} messages`;
    const tagged = tag === 0 ? "" : ` (tag ${tag})`;
    this.notes.push(
      `${groupText(this.#traces.group)}: rank ${destination} has not received ${what} of rank ${source}${tagged}.`,
    );
  }

  #compare({ source, destination }: Channel, send: TraceOp, recv: TraceOp): void {
    const [sent, received] = [dtypesOf(send), dtypesOf(recv)];
    const isKnown = send.inputSizes.length > 0 && recv.outputSizes.length > 0;
    const sameSize = !isKnown || numel(send.inputSizes) === numel(recv.outputSizes);
    const sameDtype = sent.length === 0 || received.length === 0 || sent.join() === received.join();
    const { group } = this.#traces;
    if (!sameSize || !sameDtype) {
      const left = `${printable(sent.join(", "))} ${sizesText(send.inputSizes)}${sitesText([send])}`;
      const right = `${printable(received.join(", "))} ${sizesText(recv.outputSizes)}${sitesText([recv])}`;
      this.#add(
        [source, destination],
        `${groupText(group)}: rank ${source} sends ${left}, rank ${destination} receives ${right}.`,
      );
      return;
    }
    for (const [rank, op] of [
      [source, send],
      [destination, recv],
    ] as const) {
      if (op.state === "failed") this.#add([rank], `${groupText(group)}: on rank ${rank} ${this.#failure(rank, op)}.`);
      else if (!hasEnded(op) && !this.#isPending.has(rank)) {
        // Of those in flight, the first one is told.
        this.#isPending.add(rank);
        this.#pending(rank, op, "");
      }
    }
  }

  /** A send or recv whose peer has not called the other half. */
  #alone(rank: number, op: TraceOp, peer: number, tag: number, more: number): void {
    const { group } = this.#traces;
    const waiting = new Map([[rank, op]]);
    const mayBeAny = op.kind === "send" && (this.#open.get(peer) ?? []).some(({ message }) => message?.tag === tag);
    if (mayBeAny) return;
    const waits =
      op.state === "failed" ? this.#failure(rank, op) : `${opText(op)} has waited for ${this.#waited(rank, op)}`;
    const verdict = `${groupText(group)}: on rank ${rank} ${waits}${moreText(more)}`;
    const knows = this.#recordsMessages(peer);
    if (knows && this.#job.isOverdue(peer, waiting)) {
      const half = op.kind === "send" ? "received" : "sent";
      this.#add([peer], `${verdict}; rank ${peer} has not ${half} it. ${lastCallText(this.#job, peer, group.uid)}.`);
    } else if (this.#job.trace(peer) === undefined && this.#job.isLate(waiting)) {
      this.#add([peer], `${verdict}; rank ${peer} left no dump.`);
    } else if (op.state === "failed") this.#add([rank], `${verdict}.`);
    else this.inFlight.push(`${verdict}.`);
  }

  fromAnyRank(): void {
    const { group } = this.#traces;
    for (const [rank, ops] of this.#open) {
      for (const op of ops) {
        if (op.state === "failed")
          this.#add([rank], `${groupText(group)}: on rank ${rank} ${this.#failure(rank, op)}.`);
      }
      const pending = ops.filter((op) => !hasEnded(op));
      const [op] = pending;
      if (op !== undefined) this.#pending(rank, op, moreText(pending.length - 1));
    }
  }

  /** A message that has not ended though nothing says that its peer is late. */
  #pending(rank: number, op: TraceOp, more: string): void {
    const { group } = this.#traces;
    const text = `${groupText(group)}: on rank ${rank} ${opText(op)} has waited for ${this.#waited(rank, op)}${more}.`;
    if (this.#job.trace(rank)?.isFailure !== true) this.inFlight.push(text);
    else this.findings.push({ kind: "stuck", group, seq: undefined, ranks: [rank], text });
  }

  #failure(rank: number, op: TraceOp): string {
    const reason = op.error === undefined ? "" : `: ${errorText(op.error)}`;
    return `${opText(op)} failed after ${durationText(this.#job.waited(rank, op))}${sitesText([op])}${reason}`;
  }

  #waited(rank: number, op: TraceOp): string {
    return `${durationText(this.#job.waited(rank, op))}${sitesText([op])}`;
  }

  /** PyTorch's Gloo backend records no messages, and a dump may have lost or left out the oldest ones. */
  #recordsMessages(rank: number): boolean {
    const member = this.#traces.members.get(rank);
    if (member === undefined || member.trace.isPartial) return false;
    const { trace, messages } = member;
    if (trace.writer === "pytorch" && messages.length === 0)
      return trace.ops.every(({ backend }) => backend !== "gloo");
    return trace.dropped === 0 || messages.length > 0;
  }

  #add(ranks: readonly number[], text: string): void {
    this.findings.push({ kind: "message", group: this.#traces.group, seq: undefined, ranks, text });
  }
}

function moreText(more: number): string {
  if (more < 1) return "";
  return `, and ${more} more ${more === 1 ? "message" : "messages"} after it`;
}
