import { opKind } from "../op-kind.ts";
import type { TraceCall, TraceOp } from "../rank-trace.ts";
import type { GroupTraces, MemberTrace } from "./group-traces.ts";

/** Calls by the number of the collective, then by rank. */
type NamedCalls = ReadonlyMap<number, ReadonlyMap<number, TraceCall>>;

/** A call in the text of an error. */
interface Mention {
  /** In the group. */
  readonly rank: number;
  readonly call: TraceCall;
  /** Which collective of the group it is; undefined if the text does not say. */
  readonly number: number | undefined;
}

/** What the errors of other ranks say that ranks without a dump called: the errors of calls that differ name two. */
export function namedCalls({ group, members }: GroupTraces): NamedCalls {
  const named = new Map<number, Map<number, TraceCall>>();
  for (const { trace, collectives } of members.values()) {
    const listed = trace.groups.get(group.uid)?.ranks ?? [];
    const ranks = listed.length > 0 ? listed : group.ranks;
    const globalRank = ({ rank }: Mention): number => ranks[rank] ?? -1;
    for (const [at, { error }] of collectives) {
      if (error === undefined) continue;
      const isCounted = trace.countedGroups.includes(group.uid);
      const mentions = mentionsIn(error).map((mention) => (isCounted ? { ...mention, number: undefined } : mention));
      const seq = numberOf(mentions, at, (mention) => members.get(globalRank(mention)));
      if (seq === undefined) continue;
      for (const mention of mentions) {
        const rank = globalRank(mention);
        if (rank < 0 || members.has(rank)) continue;
        const calls = named.get(seq) ?? new Map<number, TraceCall>();
        named.set(seq, calls);
        if (!calls.has(rank)) calls.set(rank, { ...mention.call, seq });
      }
    }
  }
  return named;
}

/**
 * Which collective the calls of an error are. It may be an earlier one than that with the error: a rank that only sends
 * in a broadcast completes it, and the next op fails.
 */
function numberOf(
  mentions: readonly Mention[],
  at: number,
  memberOf: (mention: Mention) => MemberTrace | undefined,
): number | undefined {
  const number = mentions.find((mention) => mention.number !== undefined)?.number;
  return [number, at].find((seq): seq is number => {
    if (seq === undefined) return false;
    const own = mentions.flatMap((mention) => {
      const op: TraceOp | undefined = memberOf(mention)?.collectives.get(seq);
      return op === undefined ? [] : [op.kind === mention.call.kind];
    });
    return own.length === 0 ? at === (number ?? at) : own.every((isSame) => isSame);
  });
}

function mentionsIn(error: string): readonly Mention[] {
  const own = [...error.matchAll(OWN)].map(([, rank, api = "", args = "", number]) => ({
    rank: Number(rank),
    call: ownCall(api, args),
    number: number === undefined ? undefined : Number(number),
  }));
  const fingerprints = [...error.matchAll(FINGERPRINT)].map(([, rank, type = "", shape, dtypes]) => ({
    rank: Number(rank),
    call: callOf(opKind(type.toLowerCase()), { sizes: shape?.split(",").map(Number), dtypes: dtypes?.split(" ") }),
    number: undefined,
  }));
  return [...own, ...fingerprints];
}

/** `rank 0 called allReduce(float32[4], PREMUL_SUM(0.5)) as collective #3`. */
const OWN =
  /\brank (\d{1,9}) called (\w{1,64})\(([^()]{0,200}(?:\([^()]{0,60}\))?[^()]{0,60})\)(?: as collective #(\d{1,15}))?/g;
/** `Rank 0 is running collective: CollectiveFingerPrint(SequenceNumber=0, OpType=ALLREDUCE, TensorShape=[4], …`, of debug level DETAIL. */
const FINGERPRINT =
  /\bRank (\d{1,9}) is running collective: CollectiveFingerPrint\(SequenceNumber=\d{1,19}(?:, )?OpType=(\w{1,64})(?:, TensorShape=\[([\d, ]{0,200})\], TensorDtypes=([\w ]{1,200}))?/g;

function ownCall(api: string, args: string): TraceCall {
  // Such as allGatherIntoTensor.
  const name = api.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const tensors = /^(?:\d{1,9} tensors of )?(\w+)(?:\[(\d{1,15})\]|, (\d{1,15}) elements)?(?:, |$)/.exec(args);
  const dtype = scalarTypes[tensors?.[1] ?? ""];
  const elements = tensors?.[2] ?? tensors?.[3];
  const root = /(?:^|, )root (\d{1,9})$/.exec(args)?.[1];
  return {
    ...callOf(name, {
      sizes: elements === undefined ? undefined : [Number(elements)],
      dtypes: dtype === undefined ? undefined : [dtype],
    }),
    reduceOp: /(?:^|, )([A-Z_]+(?:\([^()]*\))?)(?:,|$)/.exec(args)?.[1],
    root: root === undefined ? undefined : Number(root),
  };
}

interface NamedTensors {
  readonly sizes: readonly number[] | undefined;
  readonly dtypes: readonly string[] | undefined;
}

/** Errors say the sizes of one side, and of one tensor or the sum of all. */
function callOf(name: string, { sizes, dtypes = [] }: NamedTensors): TraceCall {
  const kind = opKind(name);
  const all = sizes === undefined ? [] : [sizes];
  const [hasInputs, hasOutputs] = [kind !== "scatter", kind === "scatter" || inPlace.has(kind)];
  return {
    name,
    kind,
    api: undefined,
    seq: -1,
    message: undefined,
    inputSizes: hasInputs ? all : [],
    outputSizes: hasOutputs ? all : [],
    inputDtypes: dtypes,
    outputDtypes: dtypes,
    reduceOp: undefined,
    root: undefined,
    frames: [],
  };
}

const inPlace: ReadonlySet<string> = new Set(["all_reduce", "broadcast", "reduce"]);

/** PyTorch's names of dtypes, which dumps have; those of other dtypes are not compared. */
const scalarTypes: Readonly<Record<string, string>> = {
  bool: "Bool",
  uint8: "Byte",
  int8: "Char",
  int16: "Short",
  int32: "Int",
  int64: "Long",
  float16: "Half",
  bfloat16: "BFloat16",
  float32: "Float",
  float64: "Double",
  complex64: "ComplexFloat",
  complex128: "ComplexDouble",
};
