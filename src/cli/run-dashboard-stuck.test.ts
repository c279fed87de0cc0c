import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { describeGloo } from "../backends/gloo/fixtures/availability.ts";
import { Browser, describeWithBrowser } from "./dashboard/fixtures/browser.ts";
import { pageFiles } from "./dashboard/page-files.ts";
import { CliProcess, fixture, freePort } from "./fixtures/cli-process.ts";

setDefaultTimeout(60_000);

const address = /dashboard: (http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/)/;

async function start(...command: readonly string[]): Promise<{ run: CliProcess; url: string }> {
  const args = ["run", "-n", "3", "--dashboard", "--grace", "100ms", ...command];
  const run = new CliProcess(args, {}, { limitMs: 60_000 });
  await run.printed(address);
  return { run, url: address.exec(run.stderr)?.[1] ?? "" };
}

describeGloo("the dashboard of a job that does not begin", () => {
  describeWithBrowser("in Chromium", () => {
    let browser: Browser;
    beforeAll(async () => {
      browser = await Browser.open();
    });
    afterAll(() => browser?.[Symbol.asyncDispose]());

    const row = (rank: number) => browser.text(`#ranks tbody tr:nth-child(${rank + 1})`);
    const verdict = (text: string) => `document.querySelector("#verdict .text").innerText === ${JSON.stringify(text)}`;
    /** Parts of the page that its window cuts off at the side, and texts on top of each other in the header. */
    const clipped = `Array.from(document.querySelectorAll("header *, #verdict *, [role=tab], .toolbar button, #problems li *"))
      .filter((each) => each.checkVisibility() && each.innerText !== "")
      .filter((each) => { const box = each.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth; })
      .map((each) => each.id || each.className || each.tagName)`;

    test("names who has not come to the rendezvous, in all views and in a narrow window", async () => {
      const { run, url } = await start(fixture("stuck.ts"), "away", `127.0.0.1:${freePort()}`, "1");
      await using _run = run;
      await browser.look({ width: 360, height: 640, scheme: "light" });
      await browser.go(url);
      await browser.until(verdict("Rank 1 has not called initProcessGroup"));
      await browser.until(`document.querySelectorAll("#ranks tr[data-tone=waiting]").length === 2`);
      expect(await row(1)).toMatch(/^!\s*others wait for it\s+1\s+not started\s+has not called initProcessGroup/);
      expect(await row(0)).toMatch(/^…\s*it waits\s+0\s+connecting\s+initProcessGroup\s+[\d.]+ s/);
      // Of each rank, all is shown: nothing is cut off, and nothing is at the side.
      const cut = `Array.from(document.querySelectorAll("#ranks, #ranks tbody *"))
        .filter((each) => each.checkVisibility() && each.className !== "unseen" && each.scrollWidth > each.clientWidth)
        .filter((each) => getComputedStyle(each).display !== "inline").map((each) => each.outerHTML)`;
      expect(await browser.value<string[]>(cut)).toEqual([]);
      expect(await row(0)).toMatch(/stuck\.ts:\d+:\d+/);
      await browser.press("3");
      const problem = await browser.text("#problems li");
      expect(problem).toMatch(/ranks 0, 2: in it for [\d.]+ s, called at \S*stuck\.ts:\d+:\d+/);
      expect(problem).toMatch(/they wait for rank 1 \(pid \d+\): has not called initProcessGroup/);
      for (const scale of [1, 2]) {
        await browser.look({ width: 720 / scale, height: 640 / scale, scheme: "dark" });
        for (const key of ["1", "2", "3"]) {
          await browser.press(key);
          expect([scale, key, await browser.value<string[]>(clipped)]).toEqual([scale, key, []]);
          expect(await browser.value("document.documentElement.scrollWidth <= innerWidth")).toBe(true);
        }
      }
      await browser.look({ width: 360, height: 640, scheme: "light" });
      expect(await browser.value<string[]>(clipped)).toEqual([]);
      await browser.click("#problems li button");
      expect(await browser.text("#details")).toBe("rank 1, group 0: no op is known");
      await browser.press("ArrowUp");
      await browser.press("End");
      expect(await browser.text("#details")).toMatch(
        /^rank 0: initProcessGroup\nbegan [\d.]+ s after the start, pending for [\d.]+ s\ncalled at \S*stuck\.ts:\d+:\d+$/,
      );
      run.signal("SIGINT");
      await run.exitCode();
      await browser.until(`document.querySelector("#state").innerText.includes("ended, exit code 130")`);
      expect(await browser.text("#problems li h2")).toBe("Rank 1 has not called initProcessGroup");
      // The page stays as it is, and asks for nothing.
      const { length } = browser.requests;
      await Bun.sleep(1_500);
      expect(browser.requests).toHaveLength(length);
      expect(browser.complaints).toEqual([]);
    });

    test("says that the job has ended if nothing is served any more while the page is loading", async () => {
      const page = (await pageFiles()).get("")?.body ?? "";
      await using server = Bun.serve({
        ...{ hostname: "127.0.0.1", port: 0 },
        fetch: ({ url }) =>
          new URL(url).pathname === "/"
            ? new Response(page, { headers: { "Content-Type": "text/html" } })
            : new Response("not found", { status: 404 }),
      });
      await browser.go(server.url.href);
      const text = await browser.text("body");
      expect(text).toContain("Loading. If this stays, the job has ended, and its page is served no more.");
      expect(text).not.toMatch(/waiting|problem has|No rank/i);
    });

    test.each(["newGroup", "splitGroup"])("names who has not called %s", async (how) => {
      const { run, url } = await start(fixture("making.ts"), how);
      await using _run = run;
      await browser.look({ width: 1_280, height: 800, scheme: "light" });
      await browser.go(url);
      await browser.until(verdict(`Rank 1 has not called ${how}`));
      await browser.press("3");
      const problem = await browser.text("#problems li");
      expect(problem).toMatch(/ranks 0, 2: in it for [\d.]+ s, called at \S*making\.ts:\d+:\d+/);
      expect(problem).toMatch(/they wait for rank 1 \(pid \d+\): in no op, and none had started/);
      run.signal("SIGINT");
      await run.exitCode();
    });
  });
});
