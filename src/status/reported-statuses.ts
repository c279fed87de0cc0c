import { join } from "node:path";
import { printableProse } from "../errors/index.ts";
import { readOwnText, replaceOwnFile } from "../files/index.ts";
import type { GroupClosing, GroupMaking, GroupStanding, OpStatus, RankStatus } from "./rank-status.ts";
import { makers } from "./record-layout.ts";

/** Name of the file with what other hosts report, in the folder of a job. */
export const REPORTED_FILE = "reported.json";
/** The same of the ranks on this host that have ended without a record, of which only the launcher knows. */
export const ENDED_FILE = "ended.json";
/** A report of more bytes is not read. */
const MAX_BYTES = 8 * 2 ** 20;
const MAX_RANKS = 4_096;
/** Maximum number of ops and groups of a rank. */
const MAX_LIST = 64;
const MAX_TEXT = 300;

/** What the ranks of this host are doing, as a text for {@link parseStatuses} on another one. */
export function statusesText(statuses: readonly RankStatus[]): string {
  return JSON.stringify(statuses.slice(0, MAX_RANKS));
}

/**
 * What another host reports of its ranks; what is not of the right form is left out, since it may come from anybody who
 * can reach the store.
 * @param reportedAt When it arrived, in milliseconds since the epoch, by the clock of this host.
 */
export function parseStatuses(text: string, reportedAt: number): RankStatus[] {
  if (text.length > MAX_BYTES) return [];
  try {
    return list(JSON.parse(text), MAX_RANKS).flatMap((each) => parseStatus(each, reportedAt) ?? []);
  } catch {
    return [];
  }
}

/** Leaves what other hosts report where the ranks of this one can read it. */
export function writeReported(folder: string, statuses: readonly RankStatus[]): void {
  replaceOwnFile(join(folder, REPORTED_FILE), textWithin(MAX_BYTES, statuses));
}

/** Leaves where the ranks of this host can read it which of them have ended without a record. */
export function writeEnded(folder: string, statuses: readonly RankStatus[]): void {
  replaceOwnFile(join(folder, ENDED_FILE), textWithin(MAX_BYTES, statuses));
}

/** Of as many of the ranks as fit, since no more is read. */
function textWithin(maxBytes: number, statuses: readonly RankStatus[]): string {
  const text = statusesText(statuses);
  if (statuses.length <= 1 || Buffer.byteLength(text) <= maxBytes) return text;
  return textWithin(maxBytes, statuses.slice(0, Math.min(MAX_RANKS, statuses.length) / 2));
}

/** What other hosts report, as far as the launcher has asked them. */
export function readReported(folder: string): RankStatus[] {
  return statusesIn(folder, REPORTED_FILE).flatMap((each) => parseStatus(each, number(each.reportedAt)) ?? []);
}

/** The ranks of this host that have ended without a record, as far as the launcher says so. */
export function readEnded(folder: string): RankStatus[] {
  const at = performance.timeOrigin + performance.now();
  return statusesIn(folder, ENDED_FILE).flatMap((each) => parseStatus({ ...each, at }, undefined) ?? []);
}

function statusesIn(folder: string, name: string): readonly Fields[] {
  try {
    return list(JSON.parse(readOwnText(join(folder, name), MAX_BYTES) ?? "[]"), MAX_RANKS).filter(isFields);
  } catch {
    return [];
  }
}

type Fields = Readonly<Record<string, unknown>>;

function parseStatus(value: unknown, reportedAt: number | undefined): RankStatus | undefined {
  if (!isFields(value) || !Number.isSafeInteger(value.rank)) return undefined;
  const { process } = value;
  return {
    rank: number(value.rank),
    worldSize: number(value.worldSize),
    world: number(value.world),
    host: text(value.host),
    pid: number(value.pid),
    thread: number(value.thread),
    program: text(value.program),
    process: states.find((state) => state === process),
    openedAt: number(value.openedAt),
    making: isFields(value.making) ? making(value.making) : undefined,
    closing: isFields(value.closing) ? closing(value.closing) : undefined,
    closedAt: optional(value.closedAt),
    exitedAt: optional(value.exitedAt),
    exitCode: optional(value.exitCode),
    groups: list(value.groups, MAX_LIST).flatMap((each) => (isFields(each) ? [standing(each)] : [])),
    inFlight: list(value.inFlight, MAX_LIST).flatMap((each) => (isFields(each) ? [op(each)] : [])),
    pending: number(value.pending),
    last: isFields(value.last) ? op(value.last) : undefined,
    lastFailed: isFields(value.lastFailed) ? op(value.lastFailed) : undefined,
    lastError: optionalText(value.lastError),
    begun: number(value.begun),
    failed: number(value.failed),
    bytes: number(value.bytes),
    at: number(value.at),
    reportedAt,
  };
}

function making({ maker, parent, turn, began, callSite }: Fields): GroupMaking | undefined {
  const known = makers.find((each) => each === maker);
  if (known === undefined) return undefined;
  return {
    ...{ maker: known, parent: optionalText(parent), turn: number(turn) },
    ...{ began: number(began), callSite: optionalText(callSite) },
  };
}

function closing({ group, began }: Fields): GroupClosing {
  return { group: optionalText(group), began: number(began) };
}

const states = ["running", "sleeping", "stopped", "gone"] as const;

function standing(value: Fields): GroupStanding {
  return {
    name: text(value.name),
    backend: text(value.backend),
    rank: number(value.rank),
    size: number(value.size),
    turn: number(value.turn),
    made: number(value.made),
  };
}

function op(value: Fields): OpStatus {
  return {
    op: text(value.op),
    seq: number(value.seq),
    group: optionalText(value.group),
    backend: optionalText(value.backend),
    turn: number(value.turn),
    peer: number(value.peer),
    began: number(value.began),
    ended: optional(value.ended),
    hasFailed: value.hasFailed === true,
    hasGivenUp: value.hasGivenUp === true,
    hasTimedOut: value.hasTimedOut === true,
    callSite: optionalText(value.callSite),
  };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function list(value: unknown, most: number): readonly unknown[] {
  return Array.isArray(value) ? value.slice(0, most) : [];
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function optional(value: unknown): number | undefined {
  return value === undefined ? undefined : number(value);
}

function optionalText(value: unknown): string | undefined {
  return value === undefined ? undefined : text(value);
}

function text(value: unknown): string {
  return typeof value === "string" ? printableProse(value.slice(0, MAX_TEXT)) : "";
}
