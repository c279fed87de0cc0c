import { describe, InvalidArgumentError } from "../errors/index.ts";

/** Element types, by PyTorch's names. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "float8_e4m3fn"
  | "float8_e5m2"
  | "int8"
  | "uint8"
  | "int16"
  | "uint16"
  | "int32"
  | "uint32"
  | "int64"
  | "uint64"
  | "bool"
  | "complex64"
  | "complex128";

export type DTypeKind = "float" | "float8" | "signed" | "unsigned" | "bool" | "complex";

export interface DTypeInfo {
  readonly name: DType;
  /** Bytes of one element. */
  readonly size: number;
  readonly kind: DTypeKind;
  /** c10's ScalarType number; the shim ABI uses the same. */
  readonly code: number;
  /** c10's name of it, in messages and dumps of PyTorch. */
  readonly scalarType: string;
}

const row = (name: DType, size: number, kind: DTypeKind, code: number, scalarType: string): DTypeInfo => {
  return { name, size, kind, code, scalarType };
};

export const dtypes: { readonly [name in DType]: DTypeInfo } = {
  uint8: row("uint8", 1, "unsigned", 0, "Byte"),
  int8: row("int8", 1, "signed", 1, "Char"),
  int16: row("int16", 2, "signed", 2, "Short"),
  int32: row("int32", 4, "signed", 3, "Int"),
  int64: row("int64", 8, "signed", 4, "Long"),
  float16: row("float16", 2, "float", 5, "Half"),
  float32: row("float32", 4, "float", 6, "Float"),
  float64: row("float64", 8, "float", 7, "Double"),
  complex64: row("complex64", 8, "complex", 9, "ComplexFloat"),
  complex128: row("complex128", 16, "complex", 10, "ComplexDouble"),
  bool: row("bool", 1, "bool", 11, "Bool"),
  bfloat16: row("bfloat16", 2, "float", 15, "BFloat16"),
  float8_e5m2: row("float8_e5m2", 1, "float8", 23, "Float8_e5m2"),
  float8_e4m3fn: row("float8_e4m3fn", 1, "float8", 24, "Float8_e4m3fn"),
  uint16: row("uint16", 2, "unsigned", 27, "UInt16"),
  uint32: row("uint32", 4, "unsigned", 28, "UInt32"),
  uint64: row("uint64", 8, "unsigned", 29, "UInt64"),
};

/** What the address of an element is a multiple of: its size, and for a complex number that of its parts. */
export function alignmentOf(dtype: DType): number {
  const { kind, size } = dtypes[dtype];
  return kind === "complex" ? size / 2 : size;
}

/** All dtypes. */
export const dtypeNames: readonly DType[] = Object.keys(dtypes).filter(isDType);

export function isDType(name: unknown): name is DType {
  return typeof name === "string" && Object.hasOwn(dtypes, name);
}

/** @throws InvalidArgumentError unless it is the name of a dtype. */
export function requireDType(caller: string, name: unknown): asserts name is DType {
  if (isDType(name)) return;
  const reason =
    typeof name === "string"
      ? `unknown dtype ${name}; known are ${dtypeNames.join(", ")}`
      : `dtype must be a name such as "float32", got ${describe(name)}`;
  throw new InvalidArgumentError(`${caller}: ${reason}`, { argument: "dtype" });
}
