import { dtypesText, type Feature, features, summarize } from "../registry/index.ts";
import { columns } from "./command.ts";
import type { BackendInfo, Info } from "./info.ts";

/** The text that `c10d info` prints without `--json`. */
export function infoText(info: Info): string {
  const { platform } = info;
  const parts = [
    `${info.package.name} ${info.package.version} (backend SDK ${info.sdk}, shim ABI ${info.abi}), Bun ${info.bun}, ` +
      `${platform.os} ${platform.arch} ${platform.release}, ${platform.cpus} CPUs`,
    `Backends:\n${info.backends.map(backendText).join("\n")}`,
  ];
  if (info.problems.length > 0) {
    parts.push(`Problems:\n${info.problems.map(({ origin, message }) => `  ${origin}: ${message}`).join("\n")}`);
  }
  const set = Object.entries(info.environment);
  parts.push(
    set.length === 0 ? "Environment: nothing is set (c10d env lists the variables)" : `Environment:\n${columns(set)}`,
  );
  return parts.join("\n\n").trimEnd();
}

function backendText(backend: BackendInfo): string {
  const devices = backend.devices.length === 0 ? "" : ` for ${backend.devices.join(", ")}`;
  const unavailable = backend.probed ? "not available" : "not probed";
  const version = backend.available ? `available, version ${backend.version}` : unavailable;
  const lines: [string, string][] = [];
  if (backend.available) {
    const { library, detail } = backend;
    if (library !== undefined) lines.push(["library", `${library.path} (ABI ${library.abi})`]);
    if (detail !== undefined) lines.push(["detail", detail]);
  } else {
    if (backend.probed) lines.push(["because", backend.reason]);
    lines.push(["to do", backend.remedy]);
  }
  if (backend.origin !== "built in") lines.push(["from", backend.origin]);
  lines.push(...capabilityLines(backend));
  const rows = lines.map(([name, text]) => `    ${name.padEnd(8)} ${text.replaceAll("\n", `\n${" ".repeat(13)}`)}`);
  return [`  ${backend.name} (${backend.type})${devices}: ${version}`, ...rows].join("\n");
}

function capabilityLines({ capabilities }: BackendInfo): [string, string][] {
  if (capabilities === null) return [];
  const summary = summarize(capabilities);
  const ops = summary.ops.map(({ ops, dtypes }) => `${ops.join(" ")}: ${dtypesText(dtypes)}`);
  const reductions = summary.reduceOps.map(({ dtypes, reduceOps }) => `${dtypesText(dtypes)}: ${reduceOps.join(" ")}`);
  const has = (wanted: boolean): string =>
    (Object.keys(features) as Feature[])
      .filter((name) => summary.features[name] === wanted)
      .map((name) => features[name])
      .join(", ") || "nothing";
  if (summary.made.length > 0)
    ops.push(`made of others: ${summary.made.map(({ op, of }) => `${op} (${of})`).join(" ")}`);
  if (summary.missing.length > 0) ops.push(`not: ${summary.missing.join(" ")}`);
  return [
    ["ops", ops.join("\n")],
    ["reduce", reductions.join("\n") || "nothing"],
    ["has", `${has(true)}; not: ${has(false)}`],
  ];
}
