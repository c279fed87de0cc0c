import { isUnderTorchrun } from "../store/tcp/store-secret.ts";
import { defineCommand } from "./command.ts";
import { jobSecret } from "./job-secret.ts";
import type { JobOptions } from "./launcher/job-options.ts";
import { parseEnvFlags } from "./launcher/rank-environment.ts";
import { parsePort } from "./port.ts";
import {
  masterPlace,
  parseCount,
  parseLogs,
  parseNode,
  parseRanks,
  parseRunId,
  parseTee,
  parseTime,
  rankCommand,
} from "./run-flags.ts";

/** `c10d run`: the ranks of a job, on this host or on each of several. */
export const runCommand = defineCommand({
  name: "run",
  summary:
    "Runs a script as N ranks on this host, or on each of several, and hosts their store. The first rank that fails ends\n" +
    "the job.",
  program: "script.ts [args…]",
  flags: {
    "nproc-per-node": { type: "string", short: "n", value: "<N>", description: "number of ranks on each node" },
    nnodes: { type: "string", value: "<N>", default: "1", description: "number of nodes; run this command on each" },
    "node-rank": { type: "string", value: "<R>", description: "number of this node, from 0" },
    "rdzv-endpoint": {
      type: "string",
      value: "<host:port>",
      description: "where node 0 hosts the store: an address that the other nodes can reach (port: 29500)",
    },
    "rdzv-id": { type: "string", value: "<id>", description: "id of the job; part of the paths of log files" },
    "rdzv-timeout": {
      type: "string",
      value: "<time>",
      default: "5m",
      description: "how long to wait for the other nodes at the start",
    },
    "node-timeout": {
      type: "string",
      value: "<time>",
      default: "10s",
      description: "end the job when a node has sent nothing for this time",
    },
    "secret-file": {
      type: "string",
      value: "<path>",
      description: "file of mode 0600 with the secret of the store; instead of C10D_STORE_SECRET",
    },
    insecure: { type: "boolean", description: "run without a secret, even with several nodes" },
    "master-addr": {
      type: "string",
      value: "<host>",
      description: "with one node: address that the store listens on and the ranks connect to (127.0.0.1)",
    },
    "master-port": {
      type: "string",
      value: "<port>",
      description: "with one node: port of the store; 0 (default) for a free one",
    },
    "max-restarts": {
      type: "string",
      value: "<N>",
      default: "0",
      description: "how often all ranks are restarted after one has failed",
    },
    timeout: { type: "string", value: "<time>", description: "end the job after this time, such as 30s or 2h" },
    grace: {
      type: "string",
      value: "<time>",
      default: "5s",
      description: "time that ranks have to end after a signal before they are killed",
    },
    env: { type: "string", multiple: true, value: "<K=V>", description: "set a variable for all ranks; repeatable" },
    "log-dir": {
      type: "string",
      value: "<dir>",
      description: "write the ranks' output to <dir>/<id>/attempt_<k>/<rank>/stdout.log and stderr.log instead",
    },
    redirects: {
      type: "string",
      short: "r",
      value: "<1|2|3>",
      description: "what goes to --log-dir: 1 stdout, 2 stderr, 3 (default) both",
    },
    tee: { type: "boolean", description: "also print what goes to --log-dir" },
    json: { type: "boolean", description: "print events as JSON lines; the ranks' output goes to stderr" },
    dashboard: {
      type: "string",
      value: "<port>",
      implied: "0",
      description:
        "serve a page that shows what the ranks are doing, to this user on this host; its address is printed",
    },
    "no-prefix": { type: "boolean", description: "print the lines of the ranks without [rank N]" },
    "no-bun": {
      type: "boolean",
      description: "run the program directly, not with Bun: python3 script.py; PyTorch's ranks need --torch-compat",
    },
    "torch-compat": {
      type: "boolean",
      description: "let PyTorch's ranks use the store, which is then open to anyone who can reach its port",
    },
  },
  notes:
    "Exit code: 0 if all ranks exit with 0; that of the first rank that fails, or 128 + the signal that ended it; 128 +\n" +
    "the signal that the launcher received; 124 after --timeout; 1 when a node is lost. SIGINT, SIGTERM and SIGHUP are\n" +
    "forwarded to all ranks; a second SIGINT kills them. SIGQUIT prints the op that each rank is in, as does the end of a job\n" +
    "that fails. Rank 0 reads the standard input.\n" +
    "Each attempt has its own store. The ranks find it at MASTER_ADDR and MASTER_PORT (with several nodes a free port\n" +
    "after a restart). TORCHELASTIC_RESTART_COUNT is the number of restarts so far.\n" +
    "The store requires a secret, which the ranks get as C10D_STORE_SECRET: that of the launcher's environment or of\n" +
    "--secret-file, or else, with one node, a new one. With --torch-compat, --insecure, or under torchrun, there is none.\n" +
    "Several nodes: the same flags on each except --node-rank, for example\n" +
    "  c10d run -n 4 --nnodes 2 --node-rank 0 --rdzv-endpoint 10.0.0.1:29500 --secret-file job.secret script.ts\n" +
    "Node r runs the ranks from r * N. What ends the job on one node ends it on all, and all report the same rank. The\n" +
    "others notice within three seconds that a launcher was killed, and within --node-timeout plus two seconds that one is\n" +
    "unreachable; neither can be restarted.\n" +
    "Values of the field event with --json: started, rankEnded, status, failed, restarted, finished.",
  async run(values, program) {
    const { nnodes, node } = parseNode(values.nnodes, values["node-rank"]);
    const place = masterPlace(nnodes, values["rdzv-endpoint"], values["master-addr"], values["master-port"]);
    const torchCompat = values["torch-compat"] ? "asked" : isUnderTorchrun() ? "by torchrun" : undefined;
    const insecure = values.insecure ?? false;
    const options: JobOptions = {
      ranksPerNode: parseRanks(values["nproc-per-node"]),
      nnodes,
      node,
      command: rankCommand(program, values["no-bun"] ?? false),
      masterAddr: place.host,
      masterPort: place.port,
      timeoutMs: parseTime("timeout", values.timeout, Number.POSITIVE_INFINITY),
      graceMs: parseTime("grace", values.grace, 5_000),
      maxRestarts: parseCount("max-restarts", values["max-restarts"], 0),
      joinTimeoutMs: parseTime("rdzv-timeout", values["rdzv-timeout"], 300_000),
      lostAfterMs: parseTime("node-timeout", values["node-timeout"], 10_000),
      runId: parseRunId(values["rdzv-id"]),
      prefix: !values["no-prefix"],
      env: parseEnvFlags(values.env ?? []),
      secret: jobSecret({ nnodes, secretFile: values["secret-file"], torchCompat, insecure }),
      logs: parseLogs(values["log-dir"], values.redirects),
      tee: parseTee(values.tee ?? false, values["log-dir"]),
      json: values.json ?? false,
      dashboardPort: values.dashboard === undefined ? undefined : parsePort("dashboard", values.dashboard),
    };
    const { launch } = await import("./launcher/launch.ts");
    return launch(options);
  },
});
