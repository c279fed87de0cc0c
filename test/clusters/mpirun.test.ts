import { afterAll, beforeAll, describe, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { missing } from "../../src/backends/mpi/fixtures/availability.ts";
import { Hosts } from "./hosts.ts";
import { expectRanks, script } from "./ranks.ts";

setDefaultTimeout(60_000);

const bun = process.execPath;
const impossible = await Hosts.impossible();
if (impossible !== undefined) console.log(`mpirun on several hosts is skipped: ${impossible}`);

for (const implementation of ["openmpi", "mpich"] as const) {
  const reason = impossible ?? missing(implementation);
  if (reason !== undefined) console.log(`skip mpirun.${implementation} on several hosts: ${reason}`);

  describe.skipIf(reason !== undefined)(`mpirun of ${implementation} on several hosts`, () => {
    let hosts: Hosts;
    beforeAll(async () => {
      hosts = await Hosts.make(["n1", "n2", "n3"]);
    });
    afterAll(async () => {
      await hosts?.[Symbol.asyncDispose]();
    });

    /** As a user would on the first host, with ssh as the agent. */
    function mpirun(...program: readonly string[]) {
      const list = join(hosts.folder, "list");
      const slots = implementation === "openmpi" ? " slots=2" : ":2";
      writeFileSync(list, ["n1", "n2", "n3"].map((host) => `${host}${slots}\n`).join(""));
      const flags =
        implementation === "openmpi"
          ? ["--hostfile", list, "--mca", "plm_rsh_agent", hosts.agent, "--bind-to", "none"]
          : ["-f", list, "-launcher", "rsh", "-launcher-exec", hosts.agent];
      const asRoot = { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" };
      return hosts.run("n1", [`mpirun.${implementation}`, ...flags, ...program], asRoot, 40_000);
    }
    const places = ["n1", "n1", "n2", "n2", "n3", "n3"];

    test("the mpi backend", async () => {
      expectRanks(await mpirun("-n", "6", bun, script, "mpi"), places);
    });

    test("the gloo backend", async () => {
      const place = implementation === "openmpi" ? ["-x", "MASTER_ADDR=n1", "-x", "MASTER_PORT=29500"] : [];
      expectRanks(await mpirun(...place, "-n", "6", bun, script, "gloo", "1"), places);
    });
  });
}
