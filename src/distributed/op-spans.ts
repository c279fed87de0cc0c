import { framesOf, warn } from "../errors/index.ts";
import { type OpMessage, opChannels } from "../process-group/index.ts";

/** What is used of a span. Declared here, since programs without `@opentelemetry/api` are type-checked with this file. */
interface Span {
  setAttribute(key: string, value: string | number): unknown;
  setStatus(status: { readonly code: number; readonly message: string }): unknown;
  recordException(error: Error): void;
  end(time?: Date): void;
}

interface Tracer {
  startSpan(name: string, options: object, parent: unknown): Span;
}

/** What is used of `@opentelemetry/api`. */
interface Api {
  readonly context: { active(): unknown };
  readonly trace: { getTracer(name: string): Tracer };
  readonly SpanKind: { readonly CLIENT: number };
  readonly SpanStatusCode: { readonly ERROR: number };
}

/** The package, which is optional: a name that the compiler does not resolve. */
const API: string = "@opentelemetry/api";

/** Where `@opentelemetry/api` 1.x keeps what a program has registered. */
const REGISTERED = Symbol.for("opentelemetry.js.api.1");

let tracing: Promise<void> | undefined;

/**
 * Makes a span of each op of all groups of this process, if the program has registered a tracer provider with
 * `@opentelemetry/api` before its first group is made. Otherwise it loads nothing.
 */
export function traceOps(): Promise<void> | undefined {
  const registered = (globalThis as { [REGISTERED]?: { readonly trace?: unknown } })[REGISTERED];
  if (registered?.trace === undefined) return undefined;
  tracing ??= start();
  return tracing;
}

async function start(): Promise<void> {
  try {
    const { context, SpanKind, SpanStatusCode, trace } = (await import(API)) as Api;
    const tracer = trace.getTracer("bun-c10d");
    const spans = new WeakMap<OpMessage, Span>();
    opChannels().op.subscribe({
      start(message) {
        spans.set(message, begun(tracer, message, SpanKind.CLIENT, context.active()));
      },
      end() {},
      asyncStart() {},
      asyncEnd(message) {
        const span = spans.get(message);
        if (span === undefined) return;
        spans.delete(message);
        const { error, info } = message;
        if (info !== undefined) span.setAttribute("c10d.seq", info.seq);
        if (error !== undefined) {
          span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
          span.setAttribute("error.type", error.code);
          span.recordException(error);
        }
        span.end(info?.timeFinished);
      },
      error() {},
    });
  } catch (error) {
    warn(`OpenTelemetry is registered, but ops get no spans: ${String(error)}`, "NO_SPANS");
  }
}

function begun(tracer: Tracer, message: OpMessage, kind: number, parent: unknown): Span {
  const { op, group, rank, globalRanks, inputs, outputs, root, peer, callSite } = message;
  const [frame] = callSite === undefined ? [] : framesOf(callSite);
  const bytes = [...inputs, ...outputs].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const attributes = {
    "c10d.op": op,
    "c10d.group": group,
    "c10d.rank": rank,
    "c10d.world_size": globalRanks.length,
    "c10d.bytes": bytes,
    ...(root >= 0 && { "c10d.root": root }),
    ...(peer >= 0 && { "c10d.peer": peer }),
    ...(frame && { "code.file.path": frame.file, "code.line.number": frame.line }),
  };
  return tracer.startSpan(`c10d ${op}`, { kind, attributes }, parent);
}
