import { destroyProcessGroup, splitGroup } from "../../../distributed/index.ts";
import { InvalidArgumentError } from "../../../errors/index.ts";
import type { ProcessGroup } from "../../../process-group/index.ts";
import { type Device, TENSOR_PROTOCOL, type TensorLike, viewTensor } from "../../../tensor/index.ts";
import { reduction, summands, tile } from "../patterns.ts";
import type { SuiteCase } from "../suite-case.ts";
import type { SuiteRank } from "../suite-rank.ts";

const nameOf = (device: Device | undefined): string =>
  device === undefined ? "none" : `${device.type}:${device.index}`;

function deviceOf(it: SuiteRank): Device {
  if (it.device === undefined) throw new Error("the tensors of this case are in host memory");
  return it.device;
}

/** The group takes the tensors of this device, and no other of its kind. */
function checkBound(it: SuiteRank, what: string, group: ProcessGroup): void {
  const device = deviceOf(it);
  const bound = nameOf(group.boundDevice);
  it.check(bound === nameOf(device), `${what} is bound to ${bound} instead of ${nameOf(device)}`);
  const taken = nameOf(group.pipeline(device).device);
  it.check(taken === nameOf(device), `${what} takes tensors of ${taken} instead of ${nameOf(device)}`);
}

/** The same memory, said to be on another device of the same kind. */
function elsewhere(it: SuiteRank, tensor: TensorLike): TensorLike {
  const { ptr, byteLength, dtype } = viewTensor(tensor);
  const { type, index } = deviceOf(it);
  return { [TENSOR_PROTOCOL]: () => ({ ptr, byteLength, dtype, device: { type, index: index + 1 } }) };
}

/** Cases on a device that may be one of several. */
export const deviceCases: readonly SuiteCase[] = [
  {
    name: "devices > a group is bound to the device of its rank, and so are those made of it",
    ops: ["allReduce"],
    memory: "device",
    makesGroups: true,
    async run(it) {
      checkBound(it, "the group", it.group);
      const made = await it.newGroup();
      const part = await splitGroup([[...it.ranks]], { group: it.group, description: it.group.description });
      const [{ dtype } = { dtype: "float32" as const }] = it.reductionsOf("allReduce");
      for (const [what, group] of Object.entries({ "newGroup()": made, "splitGroup()": part })) {
        if (group === null) throw new Error(`${what} of all ranks returned null`);
        checkBound(it, `the group of ${what}`, group);
        const sum = it.place(dtype, tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, 7));
        await it.end(group.allReduce(sum.tensor));
        it.checkBytes(`allReduce on the group of ${what}`, sum, tile(reduction(dtype, "SUM", it.worldSize), dtype, 7));
        await destroyProcessGroup(group);
      }
    },
  },
  {
    name: "devices > tensors of another device are refused",
    ops: ["allReduce"],
    memory: "device",
    async run(it) {
      const [{ dtype } = { dtype: "float32" as const }] = it.reductionsOf("allReduce");
      const placed = it.empty(dtype, 5);
      const other = elsewhere(it, placed.tensor);
      const { type, index } = deviceOf(it);
      const refusals = {
        "allReduce of a tensor of another device": it.group.allReduce(other),
        "allReduce of a list from another device": it.group.allReduce([other]),
        "allReduce of tensors of two devices": it.group.allReduce([it.empty(dtype, 5).tensor, other]),
        "allGather from another device": it.group.allGather(
          it.ranks.map(() => it.empty(dtype, 5).tensor),
          other,
        ),
      };
      for (const [what, work] of Object.entries(refusals)) {
        const error = await it.rejection(what, work, 1_000);
        const isArgument = error instanceof InvalidArgumentError;
        it.check(isArgument && work.seq === -1, `${what} is refused by ${error.name}, #${work.seq}: ${error.message}`);
      }
      const { message } = await it.rejection(
        "an op on another device",
        refusals["allReduce of a list from another device"],
      );
      const names = [`${type}:${index}`, `${type}:${index + 1}`];
      it.check(
        names.every((name) => message.includes(name)),
        `the error does not name ${names.join(" and ")}: ${message}`,
      );
      it.checkBytes("the tensor of the ops that were refused", placed, new Uint8Array(placed.contents().length));
      // Each took its turn, so the ranks are still in step.
      const sum = it.place(dtype, tile(summands(dtype, "SUM", it.rank, it.worldSize), dtype, 7));
      await it.end(it.group.allReduce(sum.tensor));
      it.checkBytes("allReduce after these", sum, tile(reduction(dtype, "SUM", it.worldSize), dtype, 7));
    },
  },
];
