"""Writes a GGUF file of the llama family as a model in the hub's form (config.json, model.safetensors).

Usage: hub_model.py SOURCE.gguf DIRECTORY WEIGHTS
WEIGHTS of the layers' matrices: bf16; int8, a scale a row, activations of 8 bits (compressed-tensors' int-quantized);
int4, a scale for each 32, activations of 16 bits (its pack-quantized). What is rounded already is rounded again: the
files serve for speed alone.
"""

import json
import os
import sys

import numpy
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file

GROUP = 32
# Keeps the scale of a row of zeros from dividing by zero.
LEAST_SCALE = 1e-8
TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hub_name(name):
    if name in TOP:
        return TOP[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def neighbours_to_halves(weight, heads):
    """RoPE turns neighbouring rows in GGUF's llama, and rows half a head apart in the hub's."""
    size = weight.shape[0] // heads
    return weight.reshape(heads, size // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def rounded(name, weight, weights):
    base = name.removesuffix("weight")
    if weights == "int8":
        scale = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=LEAST_SCALE)
        values = (weight / scale).round().clamp(-127, 127).to(torch.int8)
        return {name: values, f"{base}weight_scale": scale}
    scale = (weight.reshape(weight.shape[0], -1, GROUP).abs().amax(2) / 7.5).clamp(min=LEAST_SCALE)
    values = (weight / scale.repeat_interleave(GROUP, 1)).round().clamp(-8, 7).to(torch.int8)
    return {
        f"{base}weight_packed": pack_to_int32(values, 4),
        f"{base}weight_scale": scale.bfloat16(),
        f"{base}weight_shape": torch.tensor(list(weight.shape)),
    }


def quantization(weights):
    def integers(bits, **more):
        return {"num_bits": bits, "type": "int", "symmetric": True, **more}

    int8 = weights == "int8"
    group = {
        "targets": ["Linear"],
        "weights": integers(8, strategy="channel", dynamic=False)
        if int8
        else integers(4, strategy="group", group_size=GROUP, dynamic=False),
        "input_activations": integers(8, strategy="token", dynamic=True) if int8 else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if int8 else "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


def main(source, directory, weights):
    reader = GGUFReader(source)

    def field(key, otherwise=None):
        found = reader.get_field(key)
        return otherwise if found is None else found.contents()

    family = field("general.architecture")
    if family != "llama":
        sys.exit(f"{source} is of the family {family}: only llama can be written for vLLM")
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    hidden = field("llama.embedding_length")
    tensors = {}
    for tensor in reader.tensors:
        weight = numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32)
        if ".attn_q." in tensor.name:
            weight = neighbours_to_halves(weight, heads)
        if ".attn_k." in tensor.name:
            weight = neighbours_to_halves(weight, kv_heads)
        name, weight = hub_name(tensor.name), torch.from_numpy(weight.copy())
        whole = weights == "bf16" or "_proj." not in name
        tensors.update({name: weight.bfloat16()} if whole else rounded(name, weight, weights))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": field("llama.rope.dimension_count", hidden // heads),
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(field("llama.rope.freq_base", 10_000)),
        "max_position_embeddings": field("llama.context_length"),
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "hidden_act": "silu",
        "dtype": "bfloat16",
    }
    if weights != "bf16":
        config["quantization_config"] = quantization(weights)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    save_file(tensors, os.path.join(directory, "model.safetensors"), metadata={"format": "pt"})


main(*sys.argv[1:])
