import type { BuiltInHandler } from "./control-handler.ts";
import { processHandlers } from "./process-handlers.ts";
import { profileHandler } from "./profile-handler.ts";
import { traceHandlers } from "./trace-handlers.ts";

/** The handlers that every worker server has. */
export const builtInHandlers: readonly BuiltInHandler[] = [...processHandlers, ...traceHandlers, profileHandler];
