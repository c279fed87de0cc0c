import { afterEach, describe, expect, test } from "bun:test";
import * as dist from "../index.ts";
import { addBackendMiddleware } from "./backend-middleware.ts";

const removals: (() => void)[] = [];
afterEach(async () => {
  for (const remove of removals.splice(0)) remove();
  if (dist.isInitialized()) await dist.destroyProcessGroup();
});

async function alone(): Promise<dist.ProcessGroup> {
  const options = { mode: "solo" as const };
  return dist.initProcessGroup({ backend: "fake", store: new dist.HashStore(), rank: 0, worldSize: 2, options });
}

describe("backend middleware", () => {
  test("is put around every backend, the last one outermost", async () => {
    const seen: string[] = [];
    for (const name of ["inner", "outer"]) {
      const remove = addBackendMiddleware((backend, context) => {
        seen.push(`${name} ${backend.name} ${context.groupName} ${context.rank}/${context.size}`);
        return new Proxy(backend, {
          get(target, key) {
            if (key === "barrier") seen.push(`${name} barrier`);
            const value: unknown = Reflect.get(target, key, target);
            return typeof value === "function" ? value.bind(target) : value;
          },
        });
      });
      removals.push(remove);
    }
    await alone();
    await dist.newGroup([0]);
    await dist.barrier();
    expect(seen).toEqual([
      "inner fake 0 0/2",
      "outer fake 0 0/2",
      "inner fake 1 0/1",
      "outer fake 1 0/1",
      "outer barrier",
      "inner barrier",
    ]);
  });

  test("can be taken out again", async () => {
    let made = 0;
    const remove = addBackendMiddleware((backend) => {
      made++;
      return backend;
    });
    remove();
    remove();
    await alone();
    expect(made).toBe(0);
  });
});
