/**
 * PyTorch's TCPStore protocol (torch 2.13, libuv server). All integers are little-endian; strings and values are a u64
 * length and bytes; there are no request ids, so replies come in the order of the requests.
 */
export const QueryType = {
  VALIDATE: 0,
  SET: 1,
  COMPARE_SET: 2,
  GET: 3,
  ADD: 4,
  CHECK: 5,
  WAIT: 6,
  GETNUMKEYS: 7,
  DELETE_KEY: 8,
  APPEND: 9,
  MULTI_GET: 10,
  MULTI_SET: 11,
  CANCEL_WAIT: 12,
  PING: 13,
  QUEUE_PUSH: 14,
  QUEUE_POP: 15,
  QUEUE_LEN: 16,
  LIST_KEYS: 17,
  BARRIER: 18,
  /** Ours: after a CANCEL_WAIT, waits again at the last barrier of this connection, without counting again. */
  BARRIER_RESUME: 64,
} as const;
export type QueryType = (typeof QueryType)[keyof typeof QueryType];

/** What follows {@link QueryType.VALIDATE}. */
export const validateMagic = 0x3c85f7ce;

/** Replies to CHECK. */
export const checkReply = { READY: 0, NOT_READY: 1 } as const;
/** Replies to WAIT, BARRIER and CANCEL_WAIT. */
export const waitReply = { STOP_WAITING: 0, WAIT_CANCELED: 1 } as const;

/** Sizes that the server accepts; PyTorch's unless marked as ours. */
export const limits = {
  /** Bytes of a key, with the leading "/". */
  keyBytes: 8 * 1024,
  valueBytes: 8 * 1024 * 1024,
  /** Keys of one request. */
  keys: 131_072,
  /** Bytes of all keys of one request together; ours, since 131 072 keys of 8 KiB are 1 GiB. */
  allKeyBytes: 64 * 1024 * 1024,
  /**
   * Pending WAITs and BARRIERs of one connection; ours. The limits of one request apply to all their keys together.
   * PyTorch's clients have one at a time.
   */
  waits: 4096,
} as const;

/** The key in which clients are counted; the only one without the leading "/". */
export const joinKey = "init/";

/**
 * Clients and servers of this package recognise each other in the PING of the handshake: a nonce whose upper half is
 * `ask` is answered with `answer` as its upper half. PyTorch's nonces are process ids, which are far smaller, and its
 * servers return any nonce unchanged, so nothing changes on the wire with either of them.
 *
 * Between the two, the server answers a GET of an absent key (PyTorch's legacy server hangs up), and a failed ADD with
 * {@link addFailure} (PyTorch's servers hang up). A CANCEL_WAIT keeps the arrival at a barrier, for BARRIER_RESUME.
 */
export const dialectMark = { ask: 0xb7a5_0000, answer: 0xb7a6_0000, mask: 0xffff_0000 } as const;

/**
 * Nonces with which a recognised client of this package reads the random identity of a server of this package, in parts
 * of 32 bits. The lower half is the index of the part.
 */
export const identityMark = { ask: 0xb7a8_0000, mask: 0xffff_0000, parts: 2 } as const;

/** Replies to ADD in place of a sum when nothing was added. */
export const addFailure = { notACounter: -(2n ** 63n), overflow: -(2n ** 63n) + 1n } as const;
