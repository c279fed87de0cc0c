import type { SuiteCase } from "../suite-case.ts";
import { barrierCases } from "./barriers.ts";
import { deviceCases } from "./devices.ts";
import { failureCases } from "./failures.ts";
import { hookCases } from "./hooks.ts";
import { messageCases } from "./messages.ts";
import { movementCases } from "./movement.ts";
import { orderingCases } from "./ordering.ts";
import { reductionCases } from "./reductions.ts";
import { refusalCases } from "./refusals.ts";
import { subGroupCases } from "./sub-groups.ts";

/** Every case of the suite. */
export const suiteCases: readonly SuiteCase[] = [
  ...reductionCases,
  ...movementCases,
  ...messageCases,
  ...barrierCases,
  ...refusalCases,
  ...orderingCases,
  ...hookCases,
  ...subGroupCases,
  ...deviceCases,
  ...failureCases,
];
