import * as Effect from "effect/Effect";
import * as Queue from "effect/Queue";
import type * as Scope from "effect/Scope";

const forwarded = ["SIGINT", "SIGTERM", "SIGHUP"] as const satisfies NodeJS.Signals[];

/** The signals that the launcher receives until the scope ends. */
export const incomingSignals: Effect.Effect<Queue.Queue<NodeJS.Signals>, never, Scope.Scope> = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<NodeJS.Signals>();
  const onSignal = (signal: NodeJS.Signals) => void Queue.offerUnsafe(queue, signal);
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      for (const signal of forwarded) process.on(signal, onSignal);
    }),
    () =>
      Effect.sync(() => {
        for (const signal of forwarded) process.off(signal, onSignal);
      }),
  );
  return queue;
});
