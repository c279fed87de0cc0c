/**
 * What a {@link Logger} knows of a model and of its training; keys and units are PyTorch's: times are nanoseconds, moments
 * Unix nanoseconds, sizes bytes. What the environment does not say is "N/A".
 *
 * c10d: `DDPLoggingData`.
 */
export class DDPLoggingData {
  strsMap: Record<string, string> = {};
  intsMap: Record<string, number> = {};
}
