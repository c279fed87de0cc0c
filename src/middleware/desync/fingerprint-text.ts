import { OpType } from "../../collectives/index.ts";
import { deviceTypeCodes, dtypes } from "../../tensor/index.ts";
import type { Fingerprint } from "./fingerprint.ts";

// The texts are those of PyTorch 2.13, spaces included: tools look for them in logs.

const dtypeNames: ReadonlyMap<number, string> = new Map(
  Object.values(dtypes).map(({ code, scalarType }) => [code, scalarType]),
);

const opNames: Readonly<Record<number, string>> = {
  [OpType.ALLGATHER_BASE]: "_ALLGATHER_BASE",
  [OpType.REDUCE_SCATTER_BASE]: "_REDUCE_SCATTER_BASE",
  [OpType.ALLREDUCE_SPARSE]: "_ALLREDUCE_SPARSE",
  [OpType.RECV_ANY_SOURCE]: "RECVANYSOURCE",
};

const deviceNames: ReadonlyMap<number, string> = new Map(
  Object.entries(deviceTypeCodes).map(([name, code]) => [code, name]),
);

const opNameOf = ({ opType }: Fingerprint): string => opNames[opType] ?? OpType[opType] ?? "UNKNOWN";
const dtypesOf = ({ tensors }: Fingerprint): string[] =>
  tensors.map(({ dtype }) => dtypeNames.get(dtype) ?? `dtype ${dtype}`);
/** Only those of the first tensor, as in PyTorch. */
const sizesOf = ({ tensors }: Fingerprint): string[] => tensors[0]?.shape.map(String) ?? [];
const devicesOf = ({ tensors }: Fingerprint): string[] =>
  tensors.map(
    ({ device }) =>
      `TensorOptions(dtype=float (default), device=${deviceNames.get(device) ?? `device type ${device}`}, ` +
      "layout=Strided (default), requires_grad=false (default), pinned_memory=false (default), memory_format=(nullopt))",
  );

/** `CollectiveFingerPrint(SequenceNumber=0, OpType=ALLREDUCE, TensorShape=[3, 4], …)`. */
export function textOf(fingerprint: Fingerprint): string {
  const begin = `CollectiveFingerPrint(SequenceNumber=${fingerprint.sequence}`;
  const op = `OpType=${opNameOf(fingerprint)}`;
  if (fingerprint.tensors.length === 0) return `${begin}${op})`;
  const shape = `TensorShape=[${sizesOf(fingerprint).join(", ")}]`;
  const dtypes = `TensorDtypes=${dtypesOf(fingerprint).join(" ")}`;
  return `${begin}, ${op}, ${shape}, ${dtypes}, TensorDeviceTypes=${devicesOf(fingerprint).join(" ")})`;
}

/** In what two fingerprints differ, as far as their texts show it; else empty. */
export function differenceOf(own: Fingerprint, other: Fingerprint): string {
  const parts: string[] = [];
  if (own.sequence !== other.sequence) parts.push(`\t Sequence number: ${own.sequence}vs ${other.sequence}`);
  const lists = [
    ["Op type", [opNameOf(own)], [opNameOf(other)]],
    ["Tensor Tensor shapes", sizesOf(own), sizesOf(other)],
    ["Tensor Tensor dtypes", dtypesOf(own), dtypesOf(other)],
    ["Tensor Tensor devices", devicesOf(own), devicesOf(other)],
  ] as const;
  for (const [what, mine, theirs] of lists) {
    if (mine.length !== theirs.length || mine.some((each, i) => each !== theirs[i])) {
      parts.push(`  ${what}: ${mine.join(" ")}vs ${theirs.join(" ")}`);
    }
  }
  return parts.length === 0 ? "" : `Collectives differ in the following aspects: ${parts.join("")}`;
}
