import { describe } from "../../errors/index.ts";

/**
 * Version of the contract between plugins and this package: {@link BackendPlugin}, {@link BackendContext} and
 * {@link Backend}. Incremented when plugins written for the previous version would break.
 */
export const BACKEND_SDK_VERSION = 2;

/** What is wrong with the version that a plugin was written for, and what to do; `undefined` if it matches. */
export function sdkMismatch(plugin: { readonly name?: unknown; readonly sdk?: unknown }): string | undefined {
  const { sdk } = plugin;
  if (sdk === BACKEND_SDK_VERSION) return undefined;
  const name = `backend ${JSON.stringify(plugin.name)}`;
  if (sdk === undefined) {
    return `${name} does not say for which backend SDK it was written: give the plugin \`sdk: ${BACKEND_SDK_VERSION}\` if it is this one`;
  }
  if (typeof sdk !== "number" || !Number.isInteger(sdk)) {
    const got = typeof sdk === "string" ? `the string ${describe(sdk)}` : describe(sdk);
    return `${name}: sdk must be the number of the backend SDK that it was written for, got ${got}; write \`sdk: ${BACKEND_SDK_VERSION}\` if it is this one`;
  }
  const remedy = sdk > BACKEND_SDK_VERSION ? "update bun-c10d" : "update the backend";
  return `${name} was written for backend SDK ${sdk}, this bun-c10d has SDK ${BACKEND_SDK_VERSION}: ${remedy}`;
}
