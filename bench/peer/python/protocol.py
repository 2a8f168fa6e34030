"""The benchmark's side of a peer: one workload a line in, its speed a line out."""

import json
import os
import sys

# Libraries print where they like, from the moment they are imported: answers alone go to the real standard output.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(describe, run):
    """Answers requests on standard input until it ends.

    `run(request)` runs one workload once and returns tokens a second. Between requests the bench halts this process.
    """

    def answer(value):
        _answers.write(json.dumps(value) + "\n")
        _answers.flush()

    answer({"ready": True, "description": describe()})
    for line in sys.stdin:
        answer({"tokensPerSecond": run(json.loads(line))})
