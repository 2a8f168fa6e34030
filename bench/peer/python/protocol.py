"""The benchmark's side of a peer: one workload a line in, its speed a line out."""

import json
import os
import sys
import time

# Libraries print where they like, from the moment they are imported: answers alone go to the real standard output.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(describe, run):
    """Answers requests on standard input until it ends.

    `run(request)` runs one workload once and returns tokens a second. `idleCores` of an answer is the share of a core
    that this process took since its last answer, while it had nothing to do; the bench halts it meanwhile.
    """

    def answer(value):
        _answers.write(json.dumps(value) + "\n")
        _answers.flush()

    answer({"ready": True, "description": describe()})
    rested_at, rested_cpu = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        elapsed = time.perf_counter() - rested_at
        idle = (time.process_time() - rested_cpu) / elapsed if elapsed > 0 else 0.0
        speed = run(json.loads(line))
        answer({"tokensPerSecond": speed, "idleCores": idle})
        rested_at, rested_cpu = time.perf_counter(), time.process_time()
