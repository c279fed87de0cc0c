/** An op that is pending for this long is worth a closer look: another rank may be missing. */
export const LONG_WAIT_MS = 100;
