import { refusalCodes } from "../wire/handshake.ts";

const codes: ReadonlySet<string> = new Set(refusalCodes);

/** Whether a connection was dropped because server and client do not have the same secret. */
export function isSecretRefusal(code: string): boolean {
  return codes.has(code);
}

/**
 * A callback for dropped connections that reports those with a wrong secret, once per reason, so that they cannot flood
 * a log. The others are strangers, which are common on a reachable port.
 */
export function reportRefusals(
  report: (reason: string, peer: string, code: string) => void,
): (reason: string, peer: string, code: string) => void {
  const seen = new Set<string>();
  return (reason, peer, code) => {
    if (seen.has(code) || !isSecretRefusal(code)) return;
    seen.add(code);
    report(reason, peer, code);
  };
}
