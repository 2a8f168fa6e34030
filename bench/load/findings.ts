import { type Summary, summarize } from "#streamserve/report/statistics.js";
import type { Findings, Table } from "../report.js";
import type { Drive } from "./drive.js";
import type { Completed, Failed } from "./measure.js";

/** A request attains its objectives when both its times are within them. */
export interface Objectives {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

export interface LoadResults {
  readonly requests: number;
  readonly completed: number;
  readonly failed: number;
  /** Never sent, because of an interrupt. */
  readonly unsent: number;
  readonly wallMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  readonly requestsPerSecond: number;
  readonly ttftMs: Summary;
  readonly tpotMs: Summary;
  readonly latencyMs: Summary;
  readonly longestGapMs: Summary;
  /** The StreamServe paper's throughput of a request: (input + output tokens) / latency, in tokens/s. */
  readonly requestTokensPerSecond: Summary;
  readonly objectives: Objectives;
  /** Requests a second that attained the objectives, and their share of all that were sent. */
  readonly goodputPerSecond: number;
  readonly attained: number;
  /** Output tokens a text event: above 1 when the server sends several tokens at once. */
  readonly tokensPerEvent: number;
  readonly errors: Readonly<Record<string, { readonly count: number; readonly example: string }>>;
}

export function loadResults(run: Drive, objectives: Objectives): LoadResults {
  const completed = run.outcomes.filter((outcome): outcome is Completed => outcome?.ok === true);
  const failures = run.outcomes.filter((outcome): outcome is Failed => outcome?.ok === false);
  const sum = (pick: (request: Completed) => number) =>
    completed.reduce((total, request) => total + pick(request), 0);
  const seconds = run.wallMs / 1000;
  const promptTokens = sum((request) => request.promptTokens);
  const outputTokens = sum((request) => request.outputTokens);
  const good = completed.filter((request) => attains(request, objectives)).length;
  return {
    requests: run.outcomes.length,
    completed: completed.length,
    failed: failures.length,
    unsent: run.outcomes.length - completed.length - failures.length,
    wallMs: run.wallMs,
    promptTokens,
    outputTokens,
    outputTokensPerSecond: outputTokens / seconds,
    totalTokensPerSecond: (promptTokens + outputTokens) / seconds,
    requestsPerSecond: completed.length / seconds,
    ttftMs: summarize(completed.map((request) => request.ttftMs)),
    tpotMs: summarize(completed.map((request) => request.tpotMs).filter((value) => !Number.isNaN(value))),
    latencyMs: summarize(completed.map((request) => request.latencyMs)),
    longestGapMs: summarize(completed.map((request) => request.longestGapMs)),
    requestTokensPerSecond: summarize(
      completed.map((request) => ((request.promptTokens + request.outputTokens) * 1000) / request.latencyMs),
    ),
    objectives,
    goodputPerSecond: good / seconds,
    attained: good / Math.max(1, completed.length + failures.length),
    tokensPerEvent: outputTokens / sum((request) => request.events),
    errors: countErrors(failures),
  };
}

/** A single token has no time per output token and attains that objective. */
function attains(request: Completed, objectives: Objectives): boolean {
  return request.ttftMs <= objectives.ttftMs && !(request.tpotMs > objectives.tpotMs);
}

function countErrors(failures: readonly Failed[]): Record<string, { count: number; example: string }> {
  const errors: Record<string, { count: number; example: string }> = {};
  for (const { code, message } of failures) {
    errors[code] ??= { count: 0, example: message };
    errors[code].count += 1;
  }
  return errors;
}

/** Tables, notes and figures of a load run. `maxTokens` is the output length that was asked for. */
export function loadFindings(
  results: LoadResults,
  run: Drive,
  maxTokens: number,
  datasetSize: number,
): Omit<Findings, "settings"> {
  const notes: string[] = [];
  const unmatched = run.outcomes.filter(
    (outcome) => outcome?.ok && outcome.outputTokens !== maxTokens,
  ).length;
  if (unmatched > 0) {
    notes.push(
      `${unmatched} answers are not ${maxTokens} tokens long (the server ignores ignore_eos, or ran out of context): compare with care.`,
    );
  }
  if (results.requests > datasetSize) {
    notes.push(`${results.requests} requests over ${datasetSize} prompts: repeats may hit a prefix cache.`);
  }
  if (results.unsent > 0) notes.push(`Interrupted: ${results.unsent} requests were never sent.`);
  return {
    tables: tables(results),
    notes,
    results: { ...results, perRequest: run.outcomes },
    figures: [figure(results)],
  };
}

function tables(results: LoadResults): Table[] {
  const row = (name: string, summary: Summary) => [name, summary.p50, summary.p90, summary.p99, summary.mean];
  const { objectives } = results;
  const within = [
    Number.isFinite(objectives.ttftMs) ? `TTFT <= ${objectives.ttftMs} ms` : "",
    Number.isFinite(objectives.tpotMs) ? `TPOT <= ${objectives.tpotMs} ms` : "",
  ].filter((part) => part !== "");
  const list: Table[] = [
    {
      title: `${results.completed} of ${results.requests} requests completed in ${(results.wallMs / 1000).toFixed(2)} s`,
      columns: ["", "p50", "p90", "p99", "mean"],
      rows: [
        row("time to first token, ms", results.ttftMs),
        row("time per output token, ms", results.tpotMs),
        row("longest gap, ms", results.longestGapMs),
        row("latency, ms", results.latencyMs),
        row("(input + output) / latency, tok/s", results.requestTokensPerSecond),
      ],
    },
    {
      title: "Totals",
      columns: ["", "value"],
      rows: [
        ["output tokens/s", results.outputTokensPerSecond],
        ["input + output tokens/s", results.totalTokensPerSecond],
        ["requests/s", results.requestsPerSecond],
        [
          `goodput, requests/s${within.length > 0 ? ` (${within.join(", ")})` : ""}`,
          results.goodputPerSecond,
        ],
        ["attained, %", results.attained * 100],
        ["input tokens", results.promptTokens],
        ["output tokens", results.outputTokens],
        ["tokens an event", results.tokensPerEvent],
      ],
    },
  ];
  const errors = Object.entries(results.errors);
  if (errors.length > 0) {
    list.push({
      title: "Errors",
      columns: ["code", "requests", "example"],
      rows: errors.map(([code, { count, example }]) => [code, count, example]),
    });
  }
  return list;
}

function figure(results: LoadResults): Findings["figures"][number] {
  const bars = (name: string, pick: (summary: Summary) => number) => ({
    name,
    values: [results.ttftMs, results.tpotMs, results.longestGapMs, results.latencyMs].map((summary) =>
      summary.count > 0 ? pick(summary) : null,
    ),
  });
  return {
    kind: "bars",
    title: "Latency under load",
    valueLabel: "milliseconds",
    groups: ["first token", "per output token", "longest gap", "whole answer"],
    series: [bars("p50", (s) => s.p50), bars("p90", (s) => s.p90), bars("p99", (s) => s.p99)],
  };
}
