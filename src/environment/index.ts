export {
  type Environment,
  environmentChoice,
  environmentDebugLevel,
  environmentFlag,
  environmentInteger,
  environmentText,
  processEnvironment,
} from "./environment.ts";
export { type EnvironmentName, type EnvironmentVariable, environmentVariables, userVariables } from "./variables.ts";
