import { describe, expect, test } from "bun:test";
import { type OpCall, type OpName, OpType, opCall, opTypeOf } from "../../collectives/index.ts";
import { DistBackendError } from "../../errors/index.ts";
import type { GroupContext, Submit } from "../../registry/index.ts";
import { CPU } from "../../tensor/index.ts";
import { Work } from "../../work/index.ts";
import { suiteCases } from "./cases/cases.ts";
import { descriptionOf, entriesOf, inapplicableIn, plainSetting, settings, suiteMiddleware } from "./settings.ts";

const call = (op: OpName): OpCall => opCall(op, CPU, [], [], 1_000, {});

class Pending extends Work<void> {
  blocked = 0;

  protected override block(): void {
    this.blocked++;
    this.cameFrom(3);
    this.settle();
  }
}

/** The middleware of a setting around a backend, with what the backend sees. */
async function wrapped(name: string) {
  const setting = settings.find((each) => each.name === name);
  if (setting === undefined) throw new Error(`no setting is called ${name}`);
  const aborts: (() => void)[] = [];
  const context = { groupDescription: descriptionOf(setting), onAbort: (end: () => void) => aborts.push(end) };
  const wrap = await suiteMiddleware.create(context as unknown as GroupContext);
  const seen: (readonly OpCall[])[] = [];
  const works: Pending[] = [];
  const submit: Submit = (calls) => {
    seen.push(calls);
    const made = calls.map((each) => new Pending({ opType: opTypeOf(each), seq: seen.length }));
    works.push(...made);
    return made;
  };
  return { submit: wrap(submit), plain: submit, seen, works, abort: () => aborts.forEach((end) => void end()) };
}

describe("settings of the conformance suite", () => {
  test("each case has a unique name in each of them", () => {
    const names = settings.flatMap((setting) => entriesOf(setting, suiteCases)).map(({ name }) => name);
    expect(new Set(names).size).toBe(settings.length * suiteCases.length);
    expect(names).toContain("barrier > nobody leaves before the last has come");
    expect(names).toContain("in a sub-group > barrier > nobody leaves before the last has come");
  });

  test("the backends of other groups have no middleware", async () => {
    const { submit, plain } = await wrapped(plainSetting.name);
    expect(submit).toBe(plain);
  });

  test("passing on hands the backend the calls in a new array", async () => {
    const { submit, seen, works } = await wrapped("under a middleware that passes on");
    const calls = [call("barrier"), call("barrier")];
    expect(submit(calls)).toEqual(works);
    expect(seen[0]).not.toBe(calls);
    expect(seen[0]?.[1]).toBe(calls[1] as OpCall);
  });

  test("deferring keeps the order, and does not hold messages", async () => {
    const { submit, seen, works, abort } = await wrapped("under a middleware that defers");
    const calls = [call("barrier"), call("refused"), call("send"), call("allReduce")];
    const held = calls.map((each) => submit([each])[0]);
    expect(seen.flat()).toEqual(calls.slice(0, 3));
    expect(held[2]).toBe(works[2] as Pending);
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen.flat()).toEqual(calls);
    const error = new DistBackendError("lost");
    works[0]?.settle();
    works[3]?.settle(error);
    await held[0];
    expect(await held[3]?.catch((reason: unknown) => reason)).toBe(error);
    submit([call("barrier")]);
    abort();
    expect(seen).toHaveLength(5);
  });

  test("replacing returns Works that end and block like those of the backend", async () => {
    const { submit, works } = await wrapped("under a middleware that replaces Works");
    const [first, second] = submit([call("recv"), call("barrier")]);
    expect(first).not.toBe(works[0] as Work<void>);
    expect([first?.opType, first?.seq]).toEqual([OpType.RECV_ANY_SOURCE, 1]);
    expect(first?.wait()).toBe(true);
    expect(works[0]?.blocked).toBe(1);
    expect(first?.sourceRank()).toBe(3);
    const error = new DistBackendError("lost");
    works[1]?.settle(error);
    expect(second?.exception()).toBe(error);
  });

  test("cases that make groups do not run in sub-groups, and sub-groups not with one rank", () => {
    const subGroup = settings
      .filter((each) => each.members !== undefined)
      .flatMap((each) => entriesOf(each, suiteCases));
    const everything = { ops: { barrier: [], allReduce: ["float32"] }, reduceOps: { float32: ["SUM"] } } as const;
    const reasons = (worldSize: number) =>
      subGroup.map((entry) =>
        inapplicableIn(entry, { capabilities: everything, worldSize, waitCannotBlock: undefined }),
      );
    expect(reasons(3)).toContain("in a sub-group: it makes groups of all ranks");
    expect(reasons(3)).toContain(undefined);
    expect(reasons(2)).toContain("needs 2 ranks");
    expect(new Set(reasons(1))).toEqual(new Set(["in a sub-group: needs 2 ranks"]));
  });
});
