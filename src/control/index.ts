export { type DebugServerOptions, startDebugServer, stopDebugServer } from "./debug-server.ts";
export { CONTROL_HANDLER, type ControlHandler, type HandlerFunction } from "./handlers/control-handler.ts";
export {
  getHandler,
  getHandlerNames,
  type HandlerScope,
  type RegisterHandlerOptions,
  registerHandler,
} from "./handlers/handler-registry.ts";
export type { HandlerRequest } from "./handlers/handler-request.ts";
export type { HandlerResponse } from "./handlers/handler-response.ts";
export { type ControlBarrierOptions, type ControlOptions, StoreCollectives } from "./store-collectives.ts";
export { workerMain } from "./worker-main.ts";
export { WorkerServer, type WorkerServerOptions } from "./worker-server.ts";
