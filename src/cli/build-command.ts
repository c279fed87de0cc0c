import { existsSync } from "node:fs";
import { join } from "node:path";
import { BackendUnavailableError } from "../errors/index.ts";
import { packageFolder } from "../native/package-folder.ts";
import { defineCommand } from "./command.ts";

const tools = ["cmake", "ninja", "c++"];

/**
 * `c10d build`: compiles the shims of the native libraries that this machine has, into the build tree of the package,
 * where they are looked for.
 */
export const buildCommand = defineCommand({
  name: "build",
  summary:
    "Compiles the shims of the native libraries that are installed (Gloo, MPI, UCC) into this package, where they are found.",
  flags: { "dry-run": { type: "boolean", description: "print the commands only" } },
  async run(values) {
    const packageRoot = packageFolder();
    if (packageRoot === undefined) {
      throw new BackendUnavailableError(
        "this is a copy of c10d outside of its package, or a package that another user can change: run the c10d of the package",
      );
    }
    const target = join(packageRoot, "build/release");
    const commands = [
      ["cmake", "-S", join(packageRoot, "native"), "-B", target, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"],
      ["cmake", "--build", target, "--target", "shims"],
    ];
    // A clone has tests and benchmarks beside the shims, and its own script for them.
    if (!existsSync(join(packageRoot, "native/tests"))) commands[0]?.push("-DC10D_TESTS=OFF", "-DC10D_BENCH=OFF");
    if (values["dry-run"]) {
      for (const command of commands) console.log(command.join(" "));
      return 0;
    }
    const missing = tools.filter((tool) => Bun.which(tool) === null);
    if (missing.length > 0) {
      throw new BackendUnavailableError(
        `${missing.join(", ")} missing; on Debian and Ubuntu: apt-get install g++ cmake ninja-build, and the libraries ` +
          "to build for, such as libgloo-dev, libopenmpi-dev or libucc-dev",
      );
    }
    for (const command of commands) {
      const exitCode = await Bun.spawn(command, { stdio: ["ignore", "inherit", "inherit"] }).exited;
      if (exitCode !== 0) return 1;
    }
    console.log("bun c10d info lists the backends that are available now");
    return 0;
  },
});
