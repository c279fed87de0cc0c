// bun build.ts: compiles the shim, under a name of its own first, so that no rank ever loads half a library.
import { $ } from "bun";
import { includeDirectory } from "bun-c10d/native";

const fresh = `shm.so.${process.pid}`;
await $`cc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -pthread -I ${includeDirectory} -o ${fresh} shm.c -lm`.cwd(
  import.meta.dir,
);
await $`mv ${fresh} shm.so`.cwd(import.meta.dir);
