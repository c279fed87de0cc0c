import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { TCPStoreServer } from "../store/index.ts";
import { Browser, describeWithBrowser } from "./dashboard/fixtures/browser.ts";
import type { Snapshot } from "./dashboard/page/snapshot.ts";
import { CliProcess, fixture, runCli } from "./fixtures/cli-process.ts";

setDefaultTimeout(60_000);

const program = (name: string): string => fixture(`../dashboard/fixtures/${name}`);
const address = /dashboard: (http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/)/;

/** A job of three ranks with a dashboard, and the address of its page. */
async function start(...command: readonly string[]): Promise<{ run: CliProcess; url: string }> {
  const run = new CliProcess(
    ["run", "-n", "3", "--dashboard", "--grace", "100ms", ...command],
    {},
    { limitMs: 60_000 },
  );
  await run.printed(address);
  return { run, url: address.exec(run.stderr)?.[1] ?? "" };
}

describe("c10d run --dashboard", () => {
  test("takes a port only after =, is not known to the ranks, and is gone once the job has ended", async () => {
    const { exitCode, stdout, stderr } = await runCli(["run", "-n", "1", "--dashboard", fixture("print-env.ts")]);
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(address)]);
    const url = address.exec(stderr)?.[1] ?? "";
    expect(stdout).not.toContain(new URL(url).pathname.slice(1, -1));
    await expect(fetch(url)).rejects.toThrow();
  });

  test("is a flag of the launcher only before the script", async () => {
    const { exitCode, stderr } = await runCli(["run", "-n", "1", fixture("hello.ts"), "--dashboard"]);
    expect([exitCode, stderr]).toEqual([0, expect.not.stringMatching(address)]);
    const wrong = await runCli(["run", "-n", "1", "--dashboard=high", fixture("hello.ts")]);
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining("--dashboard must be an integer")]);
  });

  test("does not start ranks when the port is in use", async () => {
    using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { exitCode, stdout, stderr } = await runCli([
      "run",
      "-n",
      "2",
      `--dashboard=${taken.port}`,
      fixture("hello.ts"),
    ]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`port ${taken.port} of 127.0.0.1 is in use`);
  });
});

describeGloo("the dashboard of one of two nodes", () => {
  test("has the ranks of both, and names who is late on the other one", async () => {
    await using meeting = await TCPStoreServer.listen({ host: "127.0.0.1", port: 0 });
    const endpoint = `127.0.0.1:${meeting.port}`;
    await meeting.close();
    const node = (rank: number, ...flags: readonly string[]) => {
      const place = ["--nnodes", "2", "--node-rank", String(rank), "--rdzv-endpoint", endpoint];
      const args = ["run", "-n", "2", "--grace", "100ms", ...place, ...flags, fixture("far-hang.ts")];
      return new CliProcess(args, { C10D_STORE_SECRET: "for this test" }, { limitMs: 60_000 });
    };
    await using first = node(0, "--dashboard");
    await using second = node(1);
    await first.printed(address);
    const url = address.exec(first.stderr)?.[1] ?? "";
    const socket = new WebSocket(`${url.replace("http", "ws")}events`);
    const { promise, resolve, reject } = Promise.withResolvers<Snapshot>();
    socket.onmessage = ({ data }) => {
      const snapshot = JSON.parse(String(data)) as Snapshot;
      const isLong = snapshot.ranks.every(({ tone }) => tone !== "calm");
      if (isLong && snapshot.problems.some(({ ranks }) => ranks.includes(3))) resolve(snapshot);
    };
    socket.onclose = () => reject(new Error(`rank 3 was not named; ${first.stderr}${second.stderr}`));
    const { ranks, problems, job } = await promise;
    expect(ranks.map(({ rank, tone }) => `${rank} ${tone}`)).toEqual(["0 waiting", "1 waiting", "2 waiting", "3 late"]);
    expect(job).toMatchObject({ worldSize: 4, node: 0, nnodes: 2, program: "far-hang.ts" });
    expect(problems[0]).toMatchObject({
      kind: "missing",
      title: 'Rank 3 has not called allReduce #2 on group "0" (gloo)',
    });
    expect(problems[0]?.detail).toMatch(
      /they wait for rank 3 \(pid \d+ on \S+, [\d.]+ s ago\), which has not called it: in no op/,
    );
    socket.onclose = null;
    second.signal("SIGTERM");
    expect(await first.exitCode()).toBe(143);
  });
});

describeGloo("the dashboard's page", () => {
  describeWithBrowser("in Chromium", () => {
    let browser: Browser;
    beforeAll(async () => {
      browser = await Browser.open();
    });
    afterAll(() => browser?.[Symbol.asyncDispose]());

    /** Nothing was asked of another host, and nothing went wrong in the page. */
    function expectQuiet(url: string): void {
      const { host } = new URL(url);
      const { requests, complaints } = browser;
      expect(requests.length).toBeGreaterThan(10);
      expect(requests.filter((each) => new URL(each).host !== host)).toEqual([]);
      expect(complaints).toEqual([]);
    }

    const selected = (): Promise<string> => browser.value(`document.querySelector("[aria-selected=true]").id`);
    const details = (): Promise<string> => browser.text("#details");
    const canvas = (): Promise<{ x: number; y: number; width: number }> =>
      browser.value(
        `(({ x, y, width }) => ({ x, y, width }))(document.querySelector("canvas").getBoundingClientRect())`,
      );

    test("shows a healthy job in light and dark, by keyboard and by mouse", async () => {
      const { run, url } = await start(program("busy.ts"));
      await using _run = run;
      await browser.look({ width: 1_280, height: 800, scheme: "light" });
      await browser.go(url);
      const rates = `Array.from(document.querySelectorAll("#ranks tbody .ops"), (cell) => Number(cell.innerText))`;
      await browser.until(`${rates}.length === 3 && ${rates}.every((rate) => rate > 0)`);
      expect(Number(await browser.text("#ops-rate"))).toBeGreaterThan(0);
      expect(await browser.text("#bytes-rate")).toMatch(/^[\d.]+ [kM]?B$/);
      expect(await browser.text("#program")).toBe("busy.ts");
      await browser.until(`document.querySelector("#verdict .text").innerText === "No problem has been seen."`);
      expect(await browser.text("#state")).toContain("running");
      const background = "getComputedStyle(document.body).backgroundColor";
      expect(await browser.value(background)).toBe("rgb(243, 244, 246)");
      await browser.look({ width: 1_280, height: 800, scheme: "dark" });
      await browser.until(`${background} === "rgb(16, 19, 23)"`);

      // By keyboard alone: the tabs, the toolbar, the lanes.
      await browser.press("Tab");
      await browser.press("Tab");
      expect(await browser.value("document.activeElement.id")).toBe("tab-ranks");
      expect(await browser.value("getComputedStyle(document.activeElement).outlineStyle")).toBe("solid");
      await browser.press("ArrowRight");
      expect(await selected()).toBe("tab-timeline");
      for (const id of ["pause", "earlier", "later", "zoom-out", "zoom-in", "canvas"]) {
        await browser.press("Tab");
        expect(await browser.value("document.activeElement.id")).toBe(id);
      }
      await browser.press("ArrowRight");
      expect(await details()).toMatch(
        /^rank 0: \w+( #\d+)?( (to|from) rank \d)? on group "0" \(gloo\)\nbegan [\d.]+ s after the start, /,
      );
      const first = await details();
      await browser.press("ArrowLeft");
      expect(await details()).not.toBe(first);
      await browser.press("ArrowDown");
      await browser.press("End");
      expect(await details()).toMatch(/^rank 0: allReduce #\d+ on group "1"/);
      await browser.press("Home");
      await browser.press("Enter");
      await browser.until(`/^paused, [\\d.]+ (µs|ms) shown/.test(document.querySelector("#window").innerText)`);
      await browser.press("Escape");
      expect(await details()).toMatch(/^rank 0, group 1: \d+ ops are known/);
      await browser.press("p");
      await browser.until(`document.querySelector("#window").innerText.startsWith("the last")`);
      const span = await browser.text("#window");
      await browser.press("-");
      await browser.until(`document.querySelector("#window").innerText !== ${JSON.stringify(span)}`);
      await browser.press(",");
      await browser.until(`document.querySelector("#pause").ariaPressed === "true"`);
      await browser.press("?");
      expect(await browser.value(`document.querySelector("dialog").open`)).toBe(true);
      await browser.press("3");
      await browser.press("Escape");
      expect([await browser.value(`document.querySelector("dialog").open`), await selected()]).toEqual([
        ...[false, "tab-timeline"],
      ]);
      await browser.press("3");
      expect(await selected()).toBe("tab-problems");
      await browser.until(`document.querySelector("#problems .empty").innerText === "No problem has been seen."`);

      // By mouse: a rank's button, the toolbar, the lanes.
      await browser.click("#tab-ranks");
      await browser.click("#ranks tbody tr:nth-child(3) button");
      expect(await selected()).toBe("tab-timeline");
      expect(await details()).toMatch(/^rank 2: /);
      await browser.click("#pause");
      await browser.until(`document.querySelector("#pause").ariaPressed === "false"`);
      await browser.click("#pause");
      await browser.click("#zoom-in");
      const { x, y, width } = await canvas();
      const window = await browser.text("#window");
      await browser.wheel(x + width / 2, y + 40, -100, true);
      await browser.until(`document.querySelector("#window").innerText !== ${JSON.stringify(window)}`);
      await browser.mouse("mousePressed", x + 400, y + 40);
      for (let at = 400; at < 600; at += 20) await browser.mouse("mouseMoved", x + at, y + 40);
      await browser.mouse("mouseReleased", x + 600, y + 40);
      // A click on the lane of rank 2 selects it, with the op there if there is one.
      await browser.mouse("mousePressed", x + 20, y + 24 + 4.5 * 24);
      await browser.mouse("mouseReleased", x + 20, y + 24 + 4.5 * 24);
      expect(await details()).toMatch(/^rank 2, group 0: /);

      const began = performance.now();
      run.signal("SIGTERM");
      expect(await run.exitCode()).toBe(143);
      expect(performance.now() - began).toBeLessThan(5_000);
      await browser.until(`document.querySelector("#state").innerText.includes("ended, exit code 143")`);
      expectQuiet(url);
    });

    test("shows who hangs, at 800 × 600 too, and what the launcher reported at the end", async () => {
      const { run, url } = await start(fixture("hang.ts"));
      await using _run = run;
      await browser.look({ width: 800, height: 600, scheme: "light" });
      await browser.go(url);
      await browser.until(
        `document.querySelector("#verdict").innerText.includes("Rank 1 has not called allReduce #2")`,
      );
      expect(await browser.text("#announcer")).toBe('Rank 1 has not called allReduce #2 on group "0" (gloo)');
      expect(await browser.value("document.title")).toBe("(1) hang.ts – c10d");
      const row = (rank: number) => browser.text(`#ranks tbody tr:nth-child(${rank + 1})`);
      expect(await row(1)).toMatch(
        /^!\s*others wait for it\s+1\s+\d+\s+idle\s+after broadcast #1 on group "0"\s+[\d.]+ m?s ago/,
      );
      expect(await row(0)).toMatch(/^…\s*it waits\s+0\s+\d+\s+in op\s+allReduce #2 .*hang\.ts:\d+:\d+$/s);
      await browser.press("3");
      const detail = await browser.text("#problems li");
      expect(detail).toContain("ranks 0, 2: in it for ");
      expect(detail).toMatch(
        /which has not called it: in no op; the last, broadcast #1 on group "0" \(gloo\), ended [\d.]+ s ago/,
      );
      const title = (cell: string) =>
        browser.value<string>(`document.querySelector("#ranks tbody tr:nth-child(2) .${cell}").title`);
      expect(await title("state")).toMatch(/^idle: .* its process sleeps/);
      expect([await title("mark"), await title("since")]).toEqual([
        "others wait for it",
        expect.stringMatching(/ ago$/),
      ]);
      await browser.click("#problems li button");
      expect(await selected()).toBe("tab-timeline");
      expect(await details()).toMatch(/^rank 1: broadcast #1 /);
      await browser.press("ArrowUp");
      await browser.press("End");
      expect(await details()).toMatch(
        /^rank 0: allReduce #2 on group "0" \(gloo\)\n.*pending for [\d.]+ s\ncalled at \S*hang\.ts/,
      );
      // Nothing is wider than the window.
      expect(await browser.value("document.documentElement.scrollWidth")).toBe(800);

      run.signal("SIGTERM");
      expect(await run.exitCode()).toBe(143);
      await browser.until(`document.querySelector("#state").innerText.includes("ended, exit code 143")`);
      await browser.press("3");
      const end = await browser.text("#end");
      expect(end).toContain("c10d run: ended by SIGTERM; ranks 0, 1, 2 were stopped");
      expect(end).toMatch(/^ {2}rank 0 \(pid \d+\): in allReduce #2 /m);
      expect(await browser.text("#problems li h2")).toContain("Rank 1 has not called allReduce #2");
      expectQuiet(url);
    });

    test("shows that a job timed out", async () => {
      // Long enough for the page to be open by then.
      const { run, url } = await start("--timeout", "10s", "--no-bun", "sleep", "60");
      await using _run = run;
      await browser.go(url);
      await browser.until(`document.querySelector("#state").innerText.includes("ended, exit code 124")`);
      expect(await run.exitCode()).toBe(124);
      await browser.press("3");
      expect(await browser.text("#end")).toContain(
        "the job timed out: ranks 0, 1, 2 had not ended after 10 s (--timeout)",
      );
    });

    test("shows a desync with the calls, lines and errors of all ranks", async () => {
      const { run, url } = await start(program("desync.ts"));
      await using _run = run;
      await browser.look({ width: 1_280, height: 800, scheme: "dark" });
      await browser.go(url);
      await browser.until(`document.querySelector("#problems ol").textContent.includes("error on ranks 0, 1, 2:")`);
      await browser.press("3");
      expect(await browser.text("#problems li:nth-child(1) h2")).toBe(
        'Ranks call different collectives on group "0": allReduce on ranks 0, 2, broadcast on rank 1',
      );
      expect(await browser.value("document.querySelectorAll('#problems li').length")).toBe(1);
      const failed = await browser.text("#problems li");
      expect(failed).toMatch(
        /rank 2 \(pid \d+\): allReduce #3 on group "0" \(gloo\), failed .* ago, called at \S*desync\.ts:\d+:\d+/,
      );
      expect(failed.split("All ranks must call")).toHaveLength(2);

      // A lane that shows no op any more leads to the last one.
      await browser.press("2");
      for (let i = 0; i < 8; i++) await browser.press("+");
      await browser.until(`document.querySelector("#window").innerText.startsWith("the last 390 ms")`);
      await Bun.sleep(500);
      const { x, y } = await canvas();
      await browser.mouse("mousePressed", x + 400, y + 36);
      await browser.mouse("mouseReleased", x + 400, y + 36);
      expect(await details()).toMatch(/^rank 0: allReduce #3 on group "0" \(gloo\)\n.* failed after /);
      await browser.until(`document.querySelector("#pause").ariaPressed === "true"`);
      expect(failed).toContain("rank 1 called broadcast(float32[1000], root 1)");
      expectQuiet(url);
    });

    test("says which rank was killed, and when the launcher is gone", async () => {
      const { run, url } = await start(fixture("hang.ts"));
      await using _run = run;
      await browser.go(url);
      await browser.until(`document.querySelector("#verdict").innerText.includes("Rank 1 has not called")`);
      process.kill(Number(await browser.text("#ranks tbody tr:nth-child(2) .pid")), "SIGKILL");
      expect(await run.exitCode()).toBe(137);
      await browser.until(`document.querySelector("#state").innerText.includes("ended, exit code 137")`);
      await browser.press("3");
      expect(await browser.text("#problems li h2")).toBe("Rank 1 ended by SIGKILL");
      expect(await browser.text("#end")).toContain("rank 1 failed first: signal SIGKILL");

      const lost = await start(program("busy.ts"));
      await using _lost = lost.run;
      await browser.go(lost.url);
      await browser.until(`document.querySelectorAll("#ranks tbody tr").length === 3`);
      lost.run.signal("SIGSTOP");
      await browser.until(`document.querySelector("#verdict").innerText.includes("sent nothing for five seconds")`);
      lost.run.signal("SIGCONT");
      await browser.until(`document.querySelector("#verdict").innerText.includes("No problem has been seen")`);
      const pages = Array.from({ length: 7 }, () => new WebSocket(`${lost.url.replace("http", "ws")}events`));
      await Promise.all(pages.map((page) => new Promise((resolve) => page.addEventListener("open", resolve))));
      await using other = await browser.another();
      await other.go(lost.url);
      await other.until(`document.querySelector("#verdict").innerText.includes("Too many pages of this job are open")`);
      pages[0]?.close();
      await other.until(`document.querySelector("#verdict").innerText.includes("No problem has been seen")`);
      for (const page of pages) page.close();
      lost.run.signal("SIGKILL");
      await browser.until(`document.querySelector("#verdict").innerText.includes("The launcher does not answer")`);
    });
  });
});
