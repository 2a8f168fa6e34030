import type { LaneEngine, StepResult, StepRow } from "../../engine/engine.js";
import type { SimulatedEngine } from "../../engine/simulated-house.js";
import type { Job } from "../../runtime/actor.js";
import type { Tampering } from "../run.js";
import { CALM, CANCELS, DEATHS, type PlantedBug, SHARED, TIGHT } from "./bug.js";
import { bendEngine, everyNth } from "./tamper.js";

/** Bugs in engines and pools, and in how lanes use them. */

/** Bends the engines of a role's lanes. */
function inLanes(
  role: string,
  change: (engine: LaneEngine, house: SimulatedEngine) => Partial<LaneEngine>,
): () => Tampering {
  return () => ({
    engine: (lane, engine, house) =>
      lane.startsWith(role) ? bendEngine(engine, change(engine, house)) : engine,
  });
}

/** Changes the result of steps. */
function inResults(
  engine: LaneEngine,
  change: (result: StepResult, rows: readonly StepRow[]) => StepResult,
): Partial<LaneEngine> {
  return {
    submit: (rows): Job<StepResult> => {
      const job = engine.submit(rows);
      return { ...job, finished: () => job.finished(), collect: () => change(job.collect(), rows) };
    },
  };
}

export const ENGINE_BUGS: readonly PlantedBug[] = [
  {
    name: "double-release",
    about: "releasing a sequence drops its first block twice",
    caughtBy: ["pool"],
    plan: CALM,
    tampering: inLanes("decode", (engine, { pool }) => ({
      release: (handle) => {
        const block = pool.sequences[handle.index]?.blocks[0];
        engine.release(handle);
        if (block !== undefined) pool.blocks.drop(block);
        pool.changes++;
      },
    })),
  },
  {
    name: "release-forgotten",
    about: "a decode lane keeps every fifth sequence for ever",
    caughtBy: ["release", "quiescence"],
    plan: CANCELS,
    tampering: inLanes("decode", (engine) => {
      const forgets = everyNth(5);
      return { release: (handle) => void (forgets() || engine.release(handle)) };
    }),
  },
  {
    name: "stale-handle-adopted",
    about: "a decode lane goes on with a handle whose sequence is gone",
    caughtBy: ["owner"],
    plan: {
      ...DEATHS,
      // The lane is busy, then dead, while the hand-off lies in its mailbox.
      faults: [0, 1].flatMap((pair) =>
        [3, 5, 8].map((nth) => ({
          kind: "kill" as const,
          actor: `decode.${pair}`,
          when: { kind: "message" as const, type: "tokens", nth },
        })),
      ),
    },
    tampering: inLanes("decode", (engine) => ({
      adopt: (handle) => {
        try {
          engine.adopt(handle);
        } catch {
          // The bug: it should have said that the request is lost.
        }
      },
    })),
  },
  {
    name: "freed-while-in-use",
    about: "blocks of a sequence are given back while a step writes to them",
    caughtBy: ["pool", "stream", "owner"],
    plan: TIGHT,
    tampering: inLanes("decode", (engine, { pool }) => {
      const now = everyNth(6);
      return {
        submit: (rows) => {
          const job = engine.submit(rows);
          const sequence = pool.sequences[rows[0]!.sequence.index];
          if (sequence && now()) {
            for (const block of sequence.blocks.splice(0)) pool.blocks.drop(block);
            pool.changes++;
          }
          return job;
        },
      };
    }),
  },
  {
    name: "late-write",
    about: "a copy lands in a block that has gone to another request",
    caughtBy: ["stream"],
    plan: TIGHT,
    tampering: inLanes("decode", (engine, { pool }) => {
      const freed = new Set<number>();
      return {
        release: (handle) => {
          for (const block of pool.sequences[handle.index]?.blocks ?? []) freed.add(block);
          engine.release(handle);
        },
        submit: (rows) => {
          for (const { sequence } of rows) {
            const block = pool.sequences[sequence.index]?.blocks[0];
            if (block !== undefined && freed.delete(block)) pool.blocks.write(block, 3, 12345);
          }
          return engine.submit(rows);
        },
      };
    }),
  },
  {
    name: "incomplete-prompt",
    about: "a prefill lane leaves out a token of long chunks",
    caughtBy: ["owner"],
    plan: CALM,
    tampering: inLanes("prefill", (engine) => ({
      submit: (rows) =>
        engine.submit(
          rows.map((row) =>
            row.tokens.length > 8 ? { ...row, tokens: Array.from(row.tokens).slice(1) } : row,
          ),
        ),
    })),
  },
  {
    name: "wrong-draft-accepted",
    about: "verification takes the first draft as right whatever was drawn",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: inLanes("decode", (engine) =>
      inResults(engine, (result, rows) => ({
        ...result,
        rows: result.rows.map((row, i) => {
          const { drafts, tokens } = rows[i]!;
          if (drafts === 0 || row.accepted > 0) return row;
          return { ...row, tokens: Int32Array.of(tokens[tokens.length - drafts] as number) };
        }),
      })),
    ),
  },
  {
    name: "rejected-draft-kept",
    about: "KV of a rejected draft stays in the sequence",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: inLanes("decode", (engine, { pool }) =>
      inResults(engine, (result, rows) => {
        result.rows.forEach(({ accepted }, i) => {
          const { drafts, sequence, tokens } = rows[i]!;
          const kept = pool.sequences[sequence.index];
          const room = (kept?.blocks.length ?? 0) * pool.blocks.blockTokens > (kept?.tokens.length ?? 0);
          if (drafts > accepted && room)
            kept?.tokens.push(tokens[tokens.length - drafts + accepted] as number);
        });
        return result;
      }),
    ),
  },
  {
    name: "prefix-mistaken",
    about: "the prefix cache shares a block whose tokens are different",
    caughtBy: ["stream"],
    plan: SHARED,
    tampering: inLanes("prefill", (_, { pool }) => {
      const find = pool.blocks.find.bind(pool.blocks);
      let known: number | undefined;
      pool.blocks.find = (chain, parent, tokens) => {
        const found = find(chain, parent, tokens);
        if (parent === 0) known ??= found;
        return parent === 0 ? (known ?? found) : found;
      };
      return {};
    }),
  },
  {
    name: "row-twice",
    about: "a lane puts a sequence into a step twice",
    caughtBy: ["limits"],
    plan: CALM,
    tampering: () => ({
      probe: (lane, engine) =>
        lane.startsWith("decode")
          ? bendEngine(engine, { submit: (rows) => engine.submit([...rows, rows[0]!]) })
          : engine,
    }),
  },
  {
    name: "foreign-sequence",
    about: "a prefill lane goes on stepping what it has handed over",
    caughtBy: ["owner"],
    plan: CALM,
    tampering: () => ({
      probe: (lane, engine) => {
        if (!lane.startsWith("prefill")) return engine;
        return bendEngine(engine, {
          handOver: (handle, to) => {
            engine.handOver(handle, to);
            engine.length(handle);
          },
        });
      },
    }),
  },
];
