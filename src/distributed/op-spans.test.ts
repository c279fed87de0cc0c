import { describe, expect, test } from "bun:test";

/** Runs a program of two ranks; it prints its spans as JSON. */
function run(setup: string): { readonly out: string; readonly error: string } {
  const path = (file: string) => JSON.stringify(new URL(file, import.meta.url).pathname);
  const script = `
    import * as dist from ${path("../index.ts")};
    import { localRanks } from ${path("../testing/index.ts")};
    import { context, trace } from "@opentelemetry/api";
    import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
    import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
    const exporter = new InMemorySpanExporter();
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    ${setup}
    await localRanks(2, async ({ rank, group }) => {
      const step = trace.getTracer("test").startSpan("step");
      await context.with(trace.setSpan(context.active(), step), async () => {
        await group.allReduce(new Float32Array(2));
      });
      step.end();
      if (rank === 0) await group.recv(new Float32Array(1), { src: 1, timeout: 20 }).catch(() => {});
      else await Bun.sleep(100);
    });
    const ids = new Map(exporter.getFinishedSpans().map((span) => [span.spanContext().spanId, span.name]));
    console.log(JSON.stringify(exporter.getFinishedSpans().map(({ name, attributes, status, parentSpanContext, events }) => ({
      name, attributes, status: status.code, parent: ids.get(parentSpanContext?.spanId), events: events.map(({ name }) => name),
    }))));
  `;
  const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script], {
    cwd: new URL("../..", import.meta.url).pathname,
  });
  return { out: stdout.toString(), error: stderr.toString() };
}

describe("OpenTelemetry", () => {
  test("gets a span of each op, within the span that was active at the call", () => {
    const { out, error } = run(`
      context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
      trace.setGlobalTracerProvider(provider);
    `);
    expect(error).toBe("");
    const spans = (JSON.parse(out) as { name: string; attributes: Record<string, unknown> }[]).filter(
      ({ name, attributes }) => name.startsWith("c10d") && attributes["c10d.rank"] === 0,
    );
    expect(spans).toMatchObject([
      {
        name: "c10d allReduce",
        parent: "step",
        status: 0,
        attributes: { "c10d.op": "allReduce", "c10d.group": "0", "c10d.world_size": 2, "c10d.bytes": 8, "c10d.seq": 1 },
      },
      {
        name: "c10d recv",
        status: 2,
        events: ["exception"],
        attributes: { "c10d.peer": 1, "error.type": "OP_TIMEOUT" },
      },
    ] as never);
    expect(spans[0]?.attributes["code.line.number"]).toBeGreaterThan(0);
  });

  test("gets nothing, and nothing is loaded, unless the program has registered a provider", () => {
    expect(run("")).toEqual({ out: "[]\n", error: "" });
  });
});
