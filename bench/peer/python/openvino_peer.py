"""OpenVINO GenAI over a GGUF file, for `bench engine --peer openvino`.

Usage: openvino_peer.py MODEL.gguf THREADS MOST_SEQUENCES MOST_BATCH_TOKENS BACKEND [PROPERTY=VALUE ...]
BACKEND is PA (paged attention, continuous batching) or SDPA (a stateful model).
"""

import sys
import time

from protocol import serve

import numpy
import openvino
import openvino_genai as genai

# Gigabytes of KV: many times what the largest workload takes.
CACHE_GB = 1
VOCABULARY_FROM, VOCABULARY_TO = 100, 20_000


def open_pipeline(model, threads, sequences, batch_tokens, backend, settings):
    properties = {"INFERENCE_NUM_THREADS": int(threads), "ATTENTION_BACKEND": backend}
    for setting in settings:
        name, value = setting.split("=")
        properties[name] = value
    if backend == "PA":
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.max_num_seqs = int(sequences)
        # A prompt, or all of them, in one step; and none found in a cache.
        scheduler.max_num_batched_tokens = int(batch_tokens)
        scheduler.dynamic_split_fuse = False
        scheduler.enable_prefix_caching = False
        properties["scheduler_config"] = scheduler
    return genai.LLMPipeline(model, "CPU", **properties)


def main(model, threads, sequences, batch_tokens, backend, *settings):
    pipeline = open_pipeline(model, threads, sequences, batch_tokens, backend, settings)
    random = numpy.random.default_rng(1)

    def run(request):
        rows, prompt, output = request["sequences"], request["promptTokens"], request["outputTokens"]
        ids = random.integers(VOCABULARY_FROM, VOCABULARY_TO, (rows, prompt), dtype=numpy.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = genai.GenerationConfig()
        config.do_sample = False
        config.ignore_eos = True
        # The first token ends the prefill, and is not decoded.
        config.max_new_tokens = config.min_new_tokens = output + 1
        began = time.perf_counter()
        result = pipeline.generate(inputs, config)
        elapsed = time.perf_counter() - began
        if output == 0:
            return rows * prompt / elapsed
        times = result.perf_metrics.raw_metrics.m_new_token_times
        return 1000 * rows * output / (times[-1] - times[0])

    serve(lambda: f"OpenVINO GenAI {genai.__version__}", run)


main(*sys.argv[1:])
