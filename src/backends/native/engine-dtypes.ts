import type { DType } from "../../tensor/index.ts";

/**
 * dtypes that the engine knows (native/engine/dtype.h) and reduces (native/reduction). Spelled out, so that a dtype which is
 * added to the package is not claimed by backends that have not been made to take it.
 */
export const engineDTypes: readonly DType[] = [
  "uint8",
  "int8",
  "int16",
  "int32",
  "int64",
  "float16",
  "float32",
  "float64",
  "complex64",
  "complex128",
  "bool",
  "bfloat16",
  "uint16",
  "uint32",
  "uint64",
];

/** dtypes that the engine moves: those of {@link engineDTypes}, and those that nothing in it reduces. */
export const movedDTypes: readonly DType[] = [...engineDTypes, "float8_e4m3fn", "float8_e5m2"];
