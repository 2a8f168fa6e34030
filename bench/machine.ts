import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, availableParallelism, cpus, loadavg, platform, release, totalmem } from "node:os";

/** Facts of the machine that a figure is worth nothing without. */
export interface Machine {
  readonly cpu: string;
  /** Cores this process may run on. */
  readonly cores: number;
  readonly memoryGiB: number;
  /** Instruction sets that decide which kernels can run, as the kernel names them. */
  readonly instructionSets: readonly string[];
  readonly system: string;
  readonly node: string;
  /** One-minute load average when the command began: above 0.5 on a measuring machine, figures are suspect. */
  readonly load: number;
}

/** Flags of /proc/cpuinfo that matter to matrix kernels, x86 and ARM. */
const TELLING_FLAGS =
  /^(avx2|fma|f16c|avx_vnni|avx_vnni_int8|avx512(f|bw|vl|_vnni|_bf16|_fp16)|amx_(tile|int8|bf16)|asimd|asimddp|i8mm|bf16|sve2?)$/;

export function readMachine(): Machine {
  const info = readCpuInfo();
  return {
    cpu: describeCpu(info),
    cores: availableParallelism(),
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    instructionSets: (field(info, "flags") ?? field(info, "Features") ?? "")
      .split(/\s+/)
      .filter((flag) => TELLING_FLAGS.test(flag)),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  };
}

/** The commit the bench was run from, with `+` where files differ from it; "unknown" outside a checkout. */
export function readRevision(): string {
  try {
    const commit = git("rev-parse", "--short=12", "HEAD");
    return git("status", "--porcelain", "--untracked-files=no") === "" ? commit : `${commit}+`;
  } catch {
    return "unknown";
  }
}

function git(...args: string[]): string {
  return execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
}

function readCpuInfo(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return "";
  }
}

/** Virtual machines hide the model's name; family and model still tell generations apart. */
function describeCpu(info: string): string {
  const name = cpus()[0]?.model.trim() || "unknown CPU";
  const family = field(info, "cpu family");
  const model = field(info, "model");
  return family && model ? `${name} (family ${family}, model ${model})` : name;
}

function field(info: string, name: string): string | undefined {
  return new RegExp(`^${name}\\s*: (.*)$`, "m").exec(info)?.[1];
}
