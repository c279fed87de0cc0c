/**
 * A status record is a file that a rank maps into its memory and other processes read: numbers of 8 bytes, so that each
 * is written and read whole, and a few texts. An op costs a rank no more than some stores into it.
 *
 * A slot is reused by later ops. Its number is written first and again last, as `check`: a reader that finds the same
 * number in an earlier copy of `check` and in a later copy of `number` has consistent values between the two. The slot
 * that was freed longest ago is taken first, so that an ended op stays readable for a while.
 */
export const RECORD_LAYOUT = 0xc10d_0008;

/** Words of the header. */
export const Header = {
  layout: 0,
  pid: 1,
  /** When the process started, in ticks since the system's start: tells a process from a later one with its pid. */
  processStart: 2,
  /** Id of the thread: 0 for the main thread, else a Worker. */
  thread: 3,
  rank: 4,
  worldSize: 5,
  /** What times in the record count from: milliseconds since the epoch. */
  timeOrigin: 6,
  begun: 7,
  ended: 8,
  failed: 9,
  /** Bytes of the tensors passed to ops so far. */
  bytes: 10,
  /** Slot of the op that ended last, plus 1; 0 for none. */
  last: 11,
  /** The same for the op that failed last. */
  lastFailed: 12,
  /** When the process exited; 0 before. */
  exitedAt: 13,
  textLength: 14,
  /** Length of the text of the error of the op that failed last. */
  errorLength: 15,
  /** When the rank closed its groups; 0 before. */
  closedAt: 16,
  /** Code with which the process exited. */
  exitCode: 17,
  /** How a group is being made, from 1 in the order of {@link makers}; 0 if none is. */
  making: 18,
  makingSince: 19,
  /** Length of the text that says where it was called. */
  makingLength: 20,
  /** Number of the world, from the id that its ranks have agreed on: one folder may have the records of several. */
  world: 21,
  /** Number of the group of which the group is being made; 0 for the default group. */
  makingParent: 22,
  /** Place among the groups that the rank has made of that one, from 1. */
  makingTurn: 23,
  /** Number of the group that is being closed; 0 if none is. */
  closing: 24,
  closingSince: 25,
  /** When the record was created. */
  openedAt: 26,
  /** Whether the rank can write its flight recorder, is asked to, or has done so: see {@link DumpState}. */
  dump: 27,
} as const;

/** A reader may replace `offered` by `wanted`; everything else in a record is written by its rank alone. */
export const DumpState = { none: 0, offered: 1, wanted: 2, written: 3 } as const;

/** The functions that make groups. */
export const makers = ["initProcessGroup", "newGroup", "splitGroup"] as const;
export type Maker = (typeof makers)[number];

/** Text of the header: host, pid namespace and program, a line each. */
export const HEADER_TEXT = { at: 28, bytes: 64 * 8 } as const;
export const ERROR_TEXT = { at: 92, bytes: 64 * 8 } as const;
export const MAKING_TEXT = { at: 156, bytes: 32 * 8 } as const;
const HEADER_WORDS = 188;

/** Words of a group. */
export const Group = {
  /** Number of the group in this record, from 1; 0 if there is none. */
  number: 0,
  isOpen: 1,
  rank: 2,
  size: 3,
  /** How many collectives the rank has called on it. */
  turn: 4,
  /** Slot of the newest collective, plus 1. */
  newest: 5,
  textLength: 6,
  /** How many groups the rank has made, or begun to make, of this one. */
  made: 7,
} as const;

const GROUP_WORDS = 32;
/** Text of a group: its name and its backends, a line each. */
export const GROUP_TEXT = { at: 8, bytes: (GROUP_WORDS - 8) * 8 } as const;
export const GROUPS = 32;
export const groupAt = (index: number): number => HEADER_WORDS + index * GROUP_WORDS;

/** Words of an op. */
export const Slot = {
  number: 0,
  state: 1,
  op: 2,
  seq: 3,
  /** Number of its group. */
  group: 4,
  /** Place among the collectives that the rank has called on the group, from 1; 0 for a message. */
  turn: 5,
  peer: 6,
  began: 7,
  ended: 8,
  /** Length of the text that says where it was called; 0 if that is not published. */
  textLength: 9,
  /** When its time-out expires; 0 for never. */
  deadline: 10,
  check: 31,
} as const;

/** `timedOut`: the op failed because other ranks were late; `gaveUp`: because they were lost, or gave up themselves. */
export const SlotState = { free: 0, pending: 1, succeeded: 2, failed: 3, gaveUp: 4, timedOut: 5 } as const;

const SLOT_WORDS = 32;
export const SLOT_TEXT = { at: 11, bytes: (Slot.check - 11) * 8 } as const;
/** A power of two. */
export const SLOTS = 64;
export const slotAt = (index: number): number => groupAt(GROUPS) + index * SLOT_WORDS;

export const RECORD_BYTES = slotAt(SLOTS) * 8;
