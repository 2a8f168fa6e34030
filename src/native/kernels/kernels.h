// The table of kernels that one instruction set provides, and the layouts they share.
//
// Every function computes each output element by the same sequence of floating-point operations whatever the
// number of tokens, the tile shape, the thread or the instruction set: integer block dots (exact), then the
// block scales in order of k with fused multiply-adds; sums over lanes by a fixed tree; exp by one
// polynomial. So results are bit-identical over batch, chunking, threads and families ("batch invariance"),
// and every family can be compared with the portable one for equality. See docs/decisions/kernels.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace streamserve {

// Tensor formats of GGUF that can be packed. The values are GGUF's type numbers.
enum class Format : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
};

// How a packed matrix keeps its weights. Activations that meet a quantised packing are quantised to int8 with
// one f32 scale per token and group of kGroup; those that meet a float packing stay f32.
// "Super" packings scale in two levels: d and m are of 256 weights, s and t are small integers of 32 or 16.
enum class Packing : uint8_t {
  kInt4Affine,     // Q4_1: w = d*q + m, q in 0..15
  kInt4Symmetric,  // Q4_0: w = d*(q - 8)
  kInt4Codebook,   // IQ4_NL: w = d*c[q], c being 16 int8
  kInt4Super,      // Q4_K: w = d*s*q + m*t, q in 0..15, s and t of 32 weights
  kInt5Affine,     // Q5_1: w = d*q + m, q in 0..31
  kInt5Symmetric,  // Q5_0: w = d*(q - 16)
  kInt5Super,      // Q5_K: w = d*s*q + m*t, q in 0..31
  kInt6Super,      // Q6_K: w = d*s*(q - 32), s of 16 weights
  kInt8Symmetric,  // Q8_0: w = d*q
  kWideAffine,     // no matrix is kept so: what others are expanded to where they are used, see layout.h
  kWideHalves,     // likewise
  kBFloat16,       // BF16
  kFloat16,        // F16
  kFloat32,        // F32; also the reference mode of every other format, widened exactly
};

// Whether activations that meet a packing are quantised. Static for the reason given in layout.h.
static constexpr bool is_quantised(Packing packing) { return packing < Packing::kBFloat16; }

// Quantisation group of weights and of activations, in elements of k.
inline constexpr uint32_t kGroup = 32;
// Elements of k that share the upper level of scales of the super packings.
inline constexpr uint32_t kSuperGroup = 256;
// Weight rows (outputs) of a tile; ranges of matmul and pack are in tiles, ceil(rows / kTileRows) a matrix.
inline constexpr uint32_t kTileRows = 16;
// Tokens of a KV block.
inline constexpr uint32_t kKvBlockTokens = 32;
// Ids of a block of logits whose largest is kept. As many as four tiles have rows, so that threads that share
// out a head share no block; smaller ones would make their peaks as dear to read as the logits, and of larger
// ones too many hold some likely token.
inline constexpr uint32_t kLogitBlock = 64;
// Relative error of an exp_sum, at most: terms down to e^-20 of the largest are right to 5e-6, and the others
// together are less than that.
inline constexpr double kExpSumError = 1e-5;
// Tokens of context that attention computes by themselves before it joins them to what came before. Twice as
// many as 256 made attention 5 to 7% quicker on Zen 5, and still leave 16 parts of a context of 8192.
inline constexpr uint32_t kAttentionSegment = 512;

// A weight matrix of `rows` outputs by `cols` inputs, packed. Does not own `data` (64-byte aligned). Rows are
// padded to whole tiles; padded rows are zero and are never written to the output.
struct PackedMatrix {
  Packing packing;
  uint32_t rows;
  uint32_t cols;
  const uint8_t* data;
};

// Activations of `tokens` rows by `cols`, as matmul wants them: opaque, and laid out for exactly this number
// of tokens. `data` must be 64-byte aligned and activation_bytes(packing, tokens, cols) long. Not owned.
struct Activations {
  uint32_t tokens;
  uint32_t cols;
  Packing packing;  // of the matrix they will meet
  uint8_t* data;
};

// Tokens [token_begin, token_end) and columns [col_begin, col_end) of activations. Columns begin at a
// multiple of kGroup, and end at one or with the row: a group is quantised by itself.
struct ActivationRange {
  uint32_t token_begin;
  uint32_t token_end;
  uint32_t col_begin;
  uint32_t col_end;
};

// Whole rows of tokens [begin, end); all of `a`.
static constexpr ActivationRange tokens_of(const Activations& a, uint32_t begin, uint32_t end) {
  return {begin, end, 0, a.cols};
}
static constexpr ActivationRange whole(const Activations& a) { return tokens_of(a, 0, a.tokens); }

// How a block keeps the keys and the values of a head: keys [head_dim][kKvBlockTokens] (transposed), values
// [kKvBlockTokens][head_dim].
enum class KvFormat : uint8_t {
  kFloat16,
  kBFloat16,  // f32's range, with 8 significant bits instead of f16's 11
  kInt8,      // and then an f32 scale a token, [kKvBlockTokens]: largest magnitude / 127
};

// Length of one head's keys, or of its values, in a block of `tokens`, in 16-bit words: the unit of every
// place in a block.
static constexpr size_t kv_part_words(KvFormat format, uint32_t head_dim, uint32_t tokens) {
  const size_t values = static_cast<size_t>(head_dim) * tokens;
  return format != KvFormat::kInt8 ? values : values / 2 + 2 * static_cast<size_t>(tokens);
}

// Segments of a context of `tokens`.
static constexpr uint32_t attention_segments(uint32_t tokens) {
  return (tokens + kAttentionSegment - 1) / kAttentionSegment;
}
// Floats of what one segment gives to one row of attention (a position's head): a multiple of 64 bytes.
static constexpr size_t attention_partial_floats(uint32_t head_dim) {
  return static_cast<size_t>(head_dim) + 16;
}

// One head's keys in some blocks, in order of position: `offset` words into each.
struct KeysOfBlocks {
  const uint16_t* const* blocks = nullptr;
  size_t offset = 0;
  uint32_t count = 0;
};

// Attention of consecutive query positions of one sequence, for the query heads that share one KV head.
struct AttentionTask {
  const float* queries;  // position p, head h at queries + p*query_stride + h*head_dim; RoPE applied
  size_t query_stride;   // floats
  float* out;            // position p, head h at out + p*out_stride + h*head_dim
  size_t out_stride;     // floats
  uint32_t positions;
  uint32_t heads;
  uint32_t context;  // tokens up to the first position, itself included; the next one has one more
  const uint16_t* const* blocks;  // the sequence's KV blocks, in order of position
  size_t key_offset;    // where this layer's and KV head's keys begin in every block, in 16-bit words
  size_t value_offset;  // likewise for values
  // A position attends to so many tokens, the latest, itself included; 0: to all.
  uint32_t window = 0;
  // Scores s become cap * tanh(s / cap); 0: they stay as they are.
  float soft_cap = 0;
  KvFormat format = KvFormat::kFloat16;
  // What this thread will probably read next: asked for ahead.
  KeysOfBlocks next{};
};

// One head's k and v of consecutive tokens of one sequence: token t's begin at key + t*stride and
// value + t*stride (floats).
struct KvRun {
  const float* key;
  const float* value;
  size_t stride;
  uint32_t tokens;
};

enum class RopeStyle : uint8_t {
  kInterleaved,  // pairs (2i, 2i+1): GGUF's Llama layout
  kHalves,       // pairs (i, i + rotated/2): NEOX, Qwen
};

struct Kernels {
  const char* name;     // "portable", "avx2", "avx2-vnni", "avx512-vnni", "neon-dotprod", "neon-i8mm"
  bool (*supported)();  // by this processor and operating system
  const char*
      layout;  // names the packed layout; packed bytes may be shared between equal layouts (disk cache)

  // Bytes of a packed rows x cols matrix; 0 if it cannot be: quantised packings need cols in multiples of
  // kGroup (kSuperGroup for the super ones), and rows and cols must not be 0.
  size_t (*packed_bytes)(Packing packing, uint32_t rows, uint32_t cols);
  // Packs tiles [tile_begin, tile_end) of a GGUF tensor (row-major, the format's own blocks, any alignment)
  // into `out` (start of the whole packed matrix, 64-byte aligned); threads may share the work by tiles.
  // Needs can_pack(format, packing).
  void (*pack)(Format format, const uint8_t* source, Packing packing, uint32_t rows, uint32_t cols,
               uint32_t tile_begin, uint32_t tile_end, uint8_t* out);

  size_t (*activation_bytes)(Packing packing, uint32_t tokens, uint32_t cols);
  // Quantises (or copies) a range of x into the panels: x points at the value of the range's first token and
  // first column, and the next token's lies `stride` floats on. Any split over threads is right.
  void (*pack_activations)(const float* x, size_t stride, const ActivationRange& range,
                           const Activations& out);
  // The same for a quantised packing; and into `rest`, of the same shape and packing, what quantisation takes
  // from x: x - int8 * scale, quantised in its turn.
  void (*pack_activations_and_rest)(const float* x, size_t stride, const ActivationRange& range,
                                    const Activations& out, const Activations& rest);
  // RMSNorm with `weight`, fused with pack_activations. Takes whole rows of tokens [token_begin, token_end),
  // whose first x points at.
  void (*norm_pack_activations)(const float* x, size_t stride, const float* weight, float epsilon,
                                uint32_t token_begin, uint32_t token_end, const Activations& out);
  // SiLU(gate) * up, fused with pack_activations.
  void (*silu_pack_activations)(const float* gate, const float* up, size_t stride,
                                const ActivationRange& range, const Activations& out);

  // GELU(gate) * up by the tanh formula, fused with pack_activations.
  void (*gelu_pack_activations)(const float* gate, const float* up, size_t stride,
                                const ActivationRange& range, const Activations& out);

  // out[token][row] (+)= sum over k of w[row][k] * a[token][k], for rows of tiles [tile_begin, tile_end) and
  // all tokens of `a`; row stride of `out` is `stride` floats. `accumulate` adds to what is there (residual).
  void (*matmul)(const PackedMatrix& w, const Activations& a, uint32_t tile_begin, uint32_t tile_end,
                 float* out, size_t stride, bool accumulate);

  // Rotates the first `rotated` dimensions of each of `heads` adjacent heads of one token, in place. cosines,
  // sines: rotated/2 floats. rotated: a multiple of 16, at most head_dim.
  void (*rope)(float* x, uint32_t heads, uint32_t head_dim, uint32_t rotated, const float* cosines,
               const float* sines, RopeStyle style);
  // Stores one head's k and v of a run in `format` (rounded to nearest even) from `slot` of a block on, in
  // which they must end (slot + run.tokens <= kKvBlockTokens); `keys` and `values` are where this layer's and
  // head's parts of the block begin. What is not finite makes an int8 scale NaN, so that it shows in every
  // score. Tokens of a run cost a fraction of tokens by themselves.
  void (*store_kv)(KvFormat format, const KvRun& run, uint32_t head_dim, uint32_t slot, uint16_t* keys,
                   uint16_t* values);
  // softmax(q.K * scale) V, over the task's window and with its soft cap. Segment after segment of the
  // context, so each query position has the same result however positions are grouped into tasks. head_dim: a
  // multiple of 16, at most 256. scratch: 64-byte aligned, attention_scratch_floats(head_dim) floats, one a
  // thread.
  void (*attention)(const AttentionTask& task, uint32_t head_dim, float scale, float* scratch);
  // The same in two parts, so that threads can share a context: what segments [begin, end) give to each row,
  // [segment][position][head] partials; and, once those of all segments in the task's window and context lie
  // side by side, in order, `out` from them.
  void (*attention_partials)(const AttentionTask& task, uint32_t head_dim, float scale, uint32_t begin,
                             uint32_t end, float* partials, float* scratch);
  void (*attention_join)(const AttentionTask& task, uint32_t head_dim, const float* partials,
                         uint32_t segments, float* scratch);
  size_t (*attention_scratch_floats)(uint32_t head_dim);
  // x = cap * tanh(x / cap), in place.
  void (*soft_cap)(float* x, size_t count, float cap);
  // The largest of each kLogitBlock of x[count], the last of which may be short, into
  // peaks[ceil(count / kLogitBlock)]; NaN where one is in the block.
  void (*block_peaks)(const float* x, size_t count, float* peaks);
  // Sum of e^((x - peak) * scale), right to kExpSumError of itself where peak is the largest x, count at most
  // 2^24 and scale finite.
  double (*exp_sum)(const float* x, size_t count, float peak, float scale);
  // Widens a row of `cols` embeddings of the GGUF tensor (start of the row, any alignment).
  void (*embed_row)(Format format, const uint8_t* row, uint32_t cols, float* out);
};

// Bytes of one row of `cols` elements in a GGUF format; 0 if cols does not fit the format's blocks.
size_t format_row_bytes(Format format, uint32_t cols);
// The packing that keeps a format's values exactly in the fewest bytes.
Packing natural_packing(Format format);
// Whether pack() takes this pair: every format in its natural packing and in kFloat32.
bool can_pack(Format format, Packing packing);

// The families compiled in, best first.
std::span<const Kernels* const> kernel_families();
// The first family that the processor supports, or the one called `name` (nullptr when it is unknown or
// unsupported). An empty or null name means the first.
const Kernels* choose_kernels(const char* name);

}  // namespace streamserve
