// Model families as data: what a layer of each has. The network is computed from this description alone, so
// that a family that recombines known parts is a row of the table.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kernels/kernels.h"

namespace streamserve {

enum class Presence : uint8_t { kNever, kOptional, kAlways };

enum class Gate : uint8_t { kSilu, kGeluTanh };

struct Family {
  // As `general.architecture` has it.
  const char* architecture;
  // The models it is known for.
  const char* models;
  RopeStyle rope_style = RopeStyle::kHalves;
  Gate gate = Gate::kSilu;
  // Embeddings are multiplied by the square root of their width.
  bool scaled_embedding = false;
  // Biases of queries, keys and values; of the attention's output and the feed-forward matrices.
  Presence projection_bias = Presence::kNever;
  Presence other_bias = Presence::kNever;
  // RMSNorm of each query and key head.
  bool head_norms = false;
  // RMSNorm of what attention and feed-forward add to the residual stream.
  bool post_norms = false;
  // Queries, keys and values in one tensor, gate and up in another.
  bool fused = false;
  // A sliding window may be asked for. In every `window_period` layers the last attends to everything; 0: all
  // layers have the window.
  bool windows = false;
  uint32_t window_period = 0;
  // Where the file names no window, no cap of attention scores or of logits; 0: none.
  uint32_t default_window = 0;
  float default_attention_cap = 0;
  float default_logit_cap = 0;
  // Base of the rotation in layers with a window, which then no scaling applies to; 0: as in the others.
  double local_rope_base = 0;
  // Divisors of rotation frequencies may come in two sets, for short contexts and for long ones.
  bool long_rope = false;
  // With so many layers (the 27B models) scores are scaled by embedding / heads instead of the head size;
  // 0: never.
  uint32_t wide_scale_layers = 0;
  // Feed-forward as a mixture of experts.
  Presence experts = Presence::kNever;
};

// nullptr when the engine does not know it.
const Family* find_family(const std::string& architecture);

// "llama (Llama, ...), qwen2 (...), ...", for errors.
std::string known_families();

}  // namespace streamserve
