import { existsSync } from "node:fs";
import { join } from "node:path";
import { BackendUnavailableError } from "../errors/index.ts";
import { packageFolder } from "../native/package-folder.ts";
import { defineCommand } from "./command.ts";

const tools = ["cmake", "ninja", "c++"];

/**
 * `c10d build`: compiles the shims of the native libraries that this machine has into the build tree of the package,
 * where the package looks for them.
 */
export const buildCommand = defineCommand({
  name: "build",
  summary:
    "Compiles the shims of the installed native libraries (Gloo, MPI, UCC) into this package, where it looks for them.",
  flags: { "dry-run": { type: "boolean", description: "print the commands only" } },
  async run(values) {
    const packageRoot = packageFolder();
    if (packageRoot === undefined) {
      throw new BackendUnavailableError(
        "this copy of c10d is outside its package, or another user can change the package: run the c10d of the package",
      );
    }
    const target = join(packageRoot, "build/release");
    const commands = [
      ["cmake", "-S", join(packageRoot, "native"), "-B", target, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"],
      ["cmake", "--build", target, "--target", "shims"],
    ];
    // A clone also has tests and benchmarks, and its own script to build them.
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
    console.log("run bun c10d info to list the backends that are now available");
    return 0;
  },
});
