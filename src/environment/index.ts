export { DebugLevel, getDebugLevel, setDebugLevel, setDebugLevelFromEnv } from "./debug-level.ts";
export {
  type Environment,
  environmentChoice,
  environmentFlag,
  environmentInteger,
  environmentText,
  processEnvironment,
} from "./environment.ts";
export { type EnvironmentName, type EnvironmentVariable, environmentVariables, userVariables } from "./variables.ts";
