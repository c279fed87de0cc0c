const encoder = new TextEncoder();
const decoder = new TextDecoder();
const ELLIPSIS = "…";

/** A text of at most so many bytes in UTF-8: of a longer one the end, as of a path with a line number. */
export function endOf(text: string, room: number): string {
  const bytes = encoder.encode(text);
  if (bytes.length <= room) return text;
  let first = bytes.length - room + encoder.encode(ELLIPSIS).length;
  // Not within a character.
  while (((bytes[first] ?? 0) & 0xc0) === 0x80) first++;
  return ELLIPSIS + decoder.decode(bytes.subarray(first));
}
