// bun build.ts: compiles the transport together with the engine and the reductions.
import { $ } from "bun";
import { includeDirectory as native } from "bun-c10d/native";

const fresh = `shm.so.${process.pid}`;
await $`c++ -std=c++17 -O2 -Wall -Wextra -Werror -shared -fPIC -pthread -fvisibility=hidden -I ${native} -o ${fresh} shm.cc ${native}/ops/*.cc ${native}/engine/*.cc ${native}/reduction/*.cc`.cwd(
  import.meta.dir,
);
await $`mv ${fresh} shm.so`.cwd(import.meta.dir);
