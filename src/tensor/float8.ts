/** How the bits of a type represent numbers. */
export interface NumberEncoding {
  /** The bits of a number, rounded to the nearest representable one. */
  encode(this: void, value: number): number;
  decode(this: void, bits: number): number;
}

interface Format {
  readonly fractionBits: number;
  readonly bias: number;
  /** Bits of the largest finite number. */
  readonly largest: number;
  /** Bits of any larger number. */
  readonly beyond: number;
}

const NAN = 0x7f;
const scratch = new DataView(new ArrayBuffer(4));

/**
 * 4 bits of exponent and 3 of fraction, finite numbers and NaN only: anything beyond ±448, including infinity, becomes
 * ±448, as in PyTorch's `.to(torch.float8_e4m3fn)`. NaN stays NaN.
 */
export const float8E4M3FN: NumberEncoding = encodingOf({ fractionBits: 3, bias: 7, largest: 0x7e, beyond: 0x7e });

/** 5 bits of exponent and 2 of fraction, with NaN and infinities, for numbers beyond ±57344: a truncated float16. */
export const float8E5M2: NumberEncoding = encodingOf({ fractionBits: 2, bias: 15, largest: 0x7b, beyond: 0x7c });

/** Rounds via float32, as PyTorch does; ties go to the even pattern. */
function encodingOf(format: Format): NumberEncoding {
  const numbers = Array.from({ length: 0x100 }, (_, bits) => numberOf(bits, format));
  return { encode: (value) => bitsOf(value, format), decode: (bits) => numbers[bits] ?? Number.NaN };
}

function bitsOf(value: number, { fractionBits, bias, largest, beyond }: Format): number {
  if (Number.isNaN(value)) return NAN;
  scratch.setFloat32(0, value);
  const word = scratch.getUint32(0);
  const sign = (word >>> 24) & 0x80;
  // Subnormals have the smallest exponent.
  const exponent = Math.max(((word >>> 23) & 0xff) - 127, 1 - bias);
  const steps = rounded(Math.abs(Math.fround(value)) / 2 ** (exponent - fractionBits));
  // The leading bit of a normal number, which is not stored, adds one to the exponent; so does a carry.
  const bits = ((exponent + bias - 1) << fractionBits) + steps;
  return sign | (bits > largest ? beyond : bits);
}

function rounded(value: number): number {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 === 1 ? nearest - 1 : nearest;
}

function numberOf(bits: number, { fractionBits, bias, largest, beyond }: Format): number {
  const sign = bits < 0x80 ? 1 : -1;
  const magnitude = bits & 0x7f;
  if (magnitude > largest) return magnitude === beyond ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  const exponent = magnitude >> fractionBits;
  const fraction = magnitude % 2 ** fractionBits;
  const steps = exponent === 0 ? fraction : fraction + 2 ** fractionBits;
  return sign * steps * 2 ** (Math.max(exponent, 1) - bias - fractionBits);
}
