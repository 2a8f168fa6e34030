import { readFileSync, writeFileSync } from "node:fs";
import type { Command } from "commander";
import * as z from "zod";
import { drawFigure } from "#streamserve/report/svg.js";
import { BenchError } from "./bench-error.js";

const labels = { title: z.string(), valueLabel: z.string() };
const roofs = z.array(z.object({ name: z.string(), value: z.number().positive() }));
const figureSchema = z.discriminatedUnion("kind", [
  z.object({
    ...labels,
    kind: z.literal("bars"),
    ratios: z.boolean().optional(),
    groups: z.array(z.string()),
    series: z.array(
      z.object({
        name: z.string(),
        values: z.array(z.number().nullable()),
        spans: z.array(z.tuple([z.number(), z.number()]).nullable()).optional(),
      }),
    ),
  }),
  z.object({
    ...labels,
    kind: z.literal("lines"),
    xLabel: z.string(),
    logarithmic: z.boolean(),
    series: z.array(z.object({ name: z.string(), points: z.array(z.tuple([z.number(), z.number()])) })),
  }),
  z.object({
    ...labels,
    kind: z.literal("roofline"),
    xLabel: z.string(),
    slopes: roofs.min(1),
    levels: roofs.min(1),
    series: z.array(
      z.object({
        name: z.string(),
        points: z.array(z.object({ label: z.string(), x: z.number().positive(), y: z.number().positive() })),
      }),
    ),
  }),
]);
const reportSchema = z.object({ figures: z.array(figureSchema).min(1) });

export function addPlotCommand(program: Command): void {
  program
    .command("plot")
    .description("draw the figures of a report (--json) as SVG files beside it")
    .argument("<report>", "a JSON file that a bench command wrote")
    .option("--out <prefix>", "path and beginning of the SVG files' names; default: the report's own")
    .action(runPlot);
}

function runPlot(file: string, options: { readonly out?: string }): void {
  const prefix = options.out ?? file.replace(/\.json$/, "");
  const { figures } = readReport(file);
  for (const [index, figure] of figures.entries()) {
    const name = figures.length === 1 ? `${prefix}.svg` : `${prefix}-${index + 1}.svg`;
    writeFileSync(name, drawFigure(figure));
    console.log(`${name}: ${figure.title}`);
  }
}

function readReport(file: string): z.output<typeof reportSchema> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new BenchError(`${file} can't be read as JSON: ${error instanceof Error ? error.message : error}`);
  }
  const report = reportSchema.safeParse(value);
  if (!report.success) {
    throw new BenchError(`${file} holds no figures: give a file that a bench command wrote with --json.`);
  }
  return report.data;
}
