import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

setDefaultTimeout(60_000);

// Runs the examples of docs/faults.md in jobs whose last rank is killed.

const root = resolve(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/faults.md"), "utf8");
const [goingOn = "", asking = ""] = Array.from(page.matchAll(/^```ts\n([\s\S]*?)^```/gm), ([, code]) => code);
// Not before all have created the group, or a late rank loses a peer while it does so.
const dying = `
const { existsSync: isThere, writeFileSync: write } = await import("node:fs");
const place = (rank) => import.meta.path + ".made-" + rank;
write(place(dist.getRank()), "");
if (dist.getRank() === 2) {
  while (!isThere(place(0)) || !isThere(place(1))) await Bun.sleep(5);
  process.kill(process.pid, "SIGKILL");
}
`;

let folder = "";
beforeAll(() => {
  mkdirSync(join(root, "build"), { recursive: true });
  folder = mkdtempSync(join(root, "build/faults-")); // inside the package, where its own name resolves
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a script as three ranks; returns the output of the survivors. */
async function survivorsOf(name: string, code: string): Promise<string[]> {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  const script = join(folder, name);
  writeFileSync(script, code);
  const ended = await Promise.all(
    [0, 1, 2].map(async (rank) => {
      const child = Bun.spawn([process.execPath, script], {
        env: {
          ...process.env,
          RANK: `${rank}`,
          WORLD_SIZE: "3",
          MASTER_ADDR: "127.0.0.1",
          MASTER_PORT: `${port}`,
        },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: 40_000,
        killSignal: "SIGTERM",
      });
      const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
      return { code: child.exitCode, signal: child.signalCode, stdout: stdout.trim(), stderr };
    }),
  );
  expect(ended[2]?.signal).toBe("SIGKILL");
  const left = ended.slice(0, 2);
  expect(left.filter((each) => each.code !== 0)).toEqual([]);
  return left.map(({ stdout }) => stdout);
}

test("the survivors continue", async () => {
  const last = "await dist.allReduce(gradients, { group });\n";
  expect(goingOn.split(last)).toHaveLength(2);
  const shown = `  console.log(\`\${lost} lost, \${group?.size} continue\`);\n`;
  const code = goingOn.replace("const gradients", `${dying}const gradients`).replace(last, last + shown);
  expect(await survivorsOf("going-on.ts", code)).toEqual(["2 lost, 2 continue", "2 lost, 2 continue"]);
});

test("which rank the others agree on after wait()", async () => {
  writeFileSync(join(folder, "culprits.ts"), asking);
  const code = `import * as dist from "bun-c10d";
import { culpritsOf } from "./culprits.ts";
await using group = await dist.initProcessGroup({ backend: "gloo", timeout: "20s" });
${dying}
try {
  for (;;) group.allReduce(new Float32Array(10)).wait();
} catch {
  console.log(await culpritsOf(group));
}
`;
  expect(await survivorsOf("asking.ts", code)).toEqual(["[ 2 ]", "[ 2 ]"]);
});
