import { readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/**
 * A lock file that lets processes which want the same model fetch it once. It only saves work: each process
 * downloads under a name of its own and moves the verified file into place, so that even a lock taken over
 * wrongly costs a second download and nothing else.
 */

/** The holder touches its lock this often. */
const HEARTBEAT_MS = 2_000;
/** A lock untouched for so long is abandoned: several heartbeats, for a machine that is busy or swapping. */
const STALE_MS = 20_000;
const POLL_MS = 200;

/**
 * Runs `work` while holding the lock at `path`. While another process holds it, waits, calling `waiting` once
 * with its process id.
 */
export async function withFetchLock<T>(
  path: string,
  waiting: (pid: number) => void,
  work: () => Promise<T>,
): Promise<T> {
  const mine = `${process.pid} ${hostname()}\n`;
  let told = false;
  while (!(await create(path, mine))) {
    const holder = await holderOf(path);
    if (holder === undefined) {
      continue;
    }
    if (holder.abandoned) {
      await takeAway(path);
      continue;
    }
    if (!told) {
      told = true;
      waiting(holder.pid);
    }
    await delay(POLL_MS);
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    // Losing a beat is harmless; the file may just have been taken over.
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if ((await readFile(path, "utf8").catch(() => "")) === mine) {
      await rm(path, { force: true });
    }
  }
}

async function create(path: string, content: string): Promise<boolean> {
  try {
    await writeFile(path, content, { flag: "wx" });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") {
      return false;
    }
    throw error;
  }
}

/** Who holds the lock; undefined when it has just been released. */
async function holderOf(path: string): Promise<{ pid: number; abandoned: boolean } | undefined> {
  const found = await stat(path).catch(() => undefined);
  const text = await readFile(path, "utf8").catch(() => undefined);
  if (found === undefined || text === undefined) {
    return undefined;
  }
  const [pid, host] = text.trim().split(" ");
  const dead = host === hostname() && !isRunning(Number(pid));
  return { pid: Number(pid), abandoned: dead || Date.now() - found.mtimeMs > STALE_MS };
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Only one of several processes that find the same abandoned lock succeeds in moving it away. */
async function takeAway(path: string): Promise<void> {
  const away = `${path}.${process.pid}`;
  await rename(path, away).catch(() => undefined);
  await rm(away, { force: true });
}
