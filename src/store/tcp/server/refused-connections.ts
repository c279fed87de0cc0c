import { refusalCodes } from "../wire/handshake.ts";

const told: ReadonlySet<string> = new Set(refusalCodes);

/** Whether a connection was dropped because server and client do not have the same secret. */
export function isSecretRefusal(code: string): boolean {
  return told.has(code);
}

/**
 * Hears of dropped connections and tells of those whose secret does not fit, once for each reason, so that nobody can
 * fill a log with them. The others are strangers, of whom a port that others reach has many.
 */
export function tellOfRefusals(
  tell: (reason: string, peer: string, code: string) => void,
): (reason: string, peer: string, code: string) => void {
  const seen = new Set<string>();
  return (reason, peer, code) => {
    if (seen.has(code) || !isSecretRefusal(code)) return;
    seen.add(code);
    tell(reason, peer, code);
  };
}
