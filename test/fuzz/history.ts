/**
 * What clients did on one key and when, and whether a single order of all calls explains it (linearizability): each
 * call takes effect at one moment between its start and its end. A call whose connection was destroyed may have taken
 * effect, then or later, or not at all.
 */
export interface Call {
  readonly start: number;
  /** Infinity if there was no reply. */
  readonly end: number;
}

/** An `add(key, 1)`; `sum` is its reply. */
export interface AddCall extends Call {
  readonly sum: number | undefined;
}

/** Whether `first` ended before `second` began, so that it must come first in the order. */
const precedes = (first: Call, second: Call) => first.end < second.start;

/** Problems of a history of increments of a counter that was 0 and is `final` at the end. */
export function checkAdds(calls: readonly AddCall[], final: number): string[] {
  const problems: string[] = [];
  const answered = calls.filter((call): call is AddCall & { sum: number } => call.sum !== undefined);
  const unknown = calls.length - answered.length;
  const sums = new Set(answered.map(({ sum }) => sum));
  if (sums.size !== answered.length) problems.push("two calls have the same sum");
  if (answered.some(({ sum }) => sum < 1 || sum > final)) problems.push("a sum is out of range");
  if (final < answered.length || final > calls.length) {
    problems.push(`${final} increments were made, ${answered.length} answered and ${unknown} unknown`);
  }
  return problems.concat(checkOrder(answered, ({ sum }) => sum));
}

/** Problems where the order contradicts the times: a call that ended before another began must precede it. */
function checkOrder<C extends Call>(calls: readonly C[], position: (call: C) => number, sameAllowed = false): string[] {
  const byEnd = [...calls].sort((a, b) => a.end - b.end);
  let ended = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (const call of [...calls].sort((a, b) => a.start - b.start)) {
    for (let next = byEnd[ended]; next !== undefined && precedes(next, call); next = byEnd[++ended]) {
      highest = Math.max(highest, position(next));
    }
    const own = position(call);
    if (sameAllowed ? own < highest : own <= highest) {
      return [`a call at position ${own} began after the end of one at position ${highest}`];
    }
  }
  return [];
}

/** An append of a token, confirmed by a later read on the same connection; tokens are all different. */
export interface AppendCall extends Call {
  readonly token: string;
  readonly read: string | undefined;
}

/** Problems of a history of appends to a value that was empty and is `final` at the end. */
export function checkAppends(calls: readonly AppendCall[], final: string): string[] {
  const problems: string[] = [];
  const endOf = (token: string) => final.indexOf(token) + token.length;
  const tokens = final.match(/[^;]*;/g) ?? [];
  const issued = new Set(calls.map(({ token }) => token));
  if (tokens.join("") !== final || tokens.some((token) => !issued.has(token))) problems.push("a token was torn");
  if (new Set(tokens).size !== tokens.length) problems.push("a token occurs twice");
  const answered = calls.filter((call): call is AppendCall & { read: string } => call.read !== undefined);
  for (const { token, read } of answered) {
    if (!final.startsWith(read)) problems.push(`what was read after ${token} is not a prefix of the final value`);
    if (!read.includes(token)) problems.push(`${token} was not read by the client that appended it`);
  }
  return problems
    .concat(checkOrder(answered, ({ read }) => read.length, true))
    .concat(checkOrder(answered, ({ token }) => endOf(token)));
}

/** A compareSet from the value that the client expected to its own value; values are all different. */
export interface CompareSetCall extends Call {
  readonly expected: string;
  readonly desired: string;
  readonly answer: string | undefined;
}

/** Problems of a history of compareSets on a key that was absent and has the value `final` at the end. */
export function checkCompareSets(calls: readonly CompareSetCall[], final: string): string[] {
  const byDesired = new Map(calls.map((call) => [call.desired, call]));
  // Backwards from the final value: each value was set by one call, which replaced the value that it expected.
  const chain: string[] = [];
  for (let value = final; value !== ""; ) {
    chain.push(value);
    const writer = byDesired.get(value);
    if (writer === undefined || chain.length > calls.length) return [`no call set ${value}`];
    value = writer.expected;
  }
  chain.push("");
  const position = new Map(chain.reverse().map((value, i) => [value, i]));
  const problems: string[] = [];
  // A refusal lies between the write of the value that it reports and the next write.
  const placed: (Call & { readonly position: number; readonly wrote: boolean })[] = [];
  for (const call of calls) {
    const { start, answer, desired } = call;
    const wrote = answer === desired;
    const at = position.get(answer ?? desired);
    if (answer === undefined) {
      if (at !== undefined) placed.push({ start, end: Number.POSITIVE_INFINITY, position: at, wrote: true });
    } else if (at === undefined) problems.push(`${answer} was returned, but was never the value`);
    else placed.push({ start, end: call.end, position: wrote ? at : at + 0.5, wrote });
  }
  const writes = placed.filter(({ wrote }) => wrote);
  if (new Set(writes.map((write) => write.position)).size !== writes.length)
    problems.push("a value has two successors");
  return problems
    .concat(checkOrder(writes, (write) => write.position))
    .concat(checkOrder(placed, (call) => call.position, true));
}
