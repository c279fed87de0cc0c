// bun build.ts: compiles the shim, under another name first, so that no rank ever loads half a library.
import { $ } from "bun";
import { includeDirectory } from "bun-c10d/native";

$.cwd(import.meta.dir);
await $`cc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -pthread -I ${includeDirectory} -o shm.so.new shm.c -lm`;
await $`mv shm.so.new shm.so`;
