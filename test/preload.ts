import { setDefaultTimeout } from "bun:test";

// Tests start processes, on machines of any speed; what hangs has a limit of its own.
setDefaultTimeout(60_000);
