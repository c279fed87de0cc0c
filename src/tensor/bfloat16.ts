const scratch = new DataView(new ArrayBuffer(4));

/** Rounds a number, via float32 as PyTorch does, to the nearest bfloat16 (ties to even); returns its 16 bits. */
export function bfloat16FromNumber(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if ((bits & 0x7fff_ffff) > 0x7f80_0000) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that 16 bits of bfloat16 represent. */
export function numberFromBfloat16(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}
