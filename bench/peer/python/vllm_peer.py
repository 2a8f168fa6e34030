"""vLLM's CPU engine over a model in the hub's form, for `bench engine --peer vllm`.

Usage: vllm_peer.py DIRECTORY THREADS MOST_SEQUENCES MOST_BATCH_TOKENS CONTEXT
"""

import os
import random
import sys
import time

from protocol import serve

VOCABULARY_FROM, VOCABULARY_TO = 100, 20_000


def bind_threads(threads):
    """One OpenMP thread a core of the first cores that this process may use."""
    cores = sorted(os.sched_getaffinity(0))[: int(threads)]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(str(core) for core in cores)


def main(directory, threads, sequences, batch_tokens, context):
    bind_threads(threads)
    # Read when vLLM is imported: no network, a GiB of KV, the engine in this very process.
    os.environ.update(
        HF_HUB_OFFLINE="1",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_NO_USAGE_STATS="1",
        # The last token of the longest workload is drawn one position beyond the model's context, and never read.
        VLLM_ALLOW_LONG_MAX_MODEL_LEN="1",
    )
    import torch
    import vllm
    from vllm.inputs import TokensPrompt

    engine = vllm.LLM(
        directory,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        max_model_len=int(context),
        max_num_seqs=int(sequences),
        # A prompt, or all of them, in one step; and none found in a cache.
        max_num_batched_tokens=int(batch_tokens),
        enable_prefix_caching=False,
    ).llm_engine
    choose = random.Random(1)
    begun = iter(range(sys.maxsize))

    def run(request):
        rows, prompt, output = request["sequences"], request["promptTokens"], request["outputTokens"]
        # The first token ends the prefill, and is not decoded.
        tokens = output + 1
        params = vllm.SamplingParams(
            temperature=0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        prompts = [[choose.randrange(VOCABULARY_FROM, VOCABULARY_TO) for _ in range(prompt)] for _ in range(rows)]
        for ids in prompts:
            engine.add_request(str(next(begun)), TokensPrompt(prompt_token_ids=ids), params)
        ends = [time.perf_counter()]
        while engine.has_unfinished_requests():
            engine.step()
            ends.append(time.perf_counter())
        if output == 0:
            return rows * prompt / (ends[-1] - ends[0])
        return rows * output / (ends[-1] - ends[-1 - output])

    serve(lambda: f"vLLM {vllm.__version__} over PyTorch {torch.__version__}, {torch.get_num_threads()} threads", run)


main(*sys.argv[1:])
