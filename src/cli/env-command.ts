import { type EnvironmentVariable, processEnvironment, userVariables } from "../environment/index.ts";
import { defineCommand } from "./command.ts";

/** For a secret, only whether it is set. */
export function shownValue({ type }: EnvironmentVariable, value: string | undefined): string | null {
  if (value === undefined) return null;
  return type === "secret" && value !== "" ? "(set)" : value;
}

/** `c10d env`: the table of environment variables with their current values. */
export const envCommand = defineCommand({
  name: "env",
  summary: "Lists the environment variables that this package reads.",
  flags: { json: { type: "boolean", description: "print JSON" } },
  run(values) {
    const rows = userVariables.map(([name, variable]) => ({
      name,
      ...variable,
      value: shownValue(variable, processEnvironment()[name]),
    }));
    if (values.json) {
      console.log(JSON.stringify(rows, null, 2));
      return Promise.resolve(0);
    }
    const text = rows.map(({ name, type, default: unset, description, value }) => {
      const now = value === null ? "" : `\n    now: ${value}`;
      return `${name} (${type}, default: ${unset})\n    ${description}${now}`;
    });
    console.log(text.join("\n"));
    return Promise.resolve(0);
  },
});
