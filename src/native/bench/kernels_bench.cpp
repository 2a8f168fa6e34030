// Times the kernels of every family that this processor runs, on the shapes of a 135M Llama (SmolLM2),
// against the measured ceilings of the machine. Usage: kernels-bench [family] [threads]
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "compute/task.h"
#include "kernels/ceilings.h"
#include "kernels/kernels.h"

namespace streamserve {
namespace {

struct Free {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};
using Bytes = std::unique_ptr<uint8_t, Free>;

// Random bytes; as f16 scales they are kept finite and small.
Bytes random_bytes(size_t size, bool as_f16) {
  constexpr size_t huge = 2 << 20;
  const size_t rounded = (size + huge - 1) / huge * huge;
  Bytes bytes(static_cast<uint8_t*>(std::aligned_alloc(huge, rounded)));
#ifdef MADV_HUGEPAGE
  ::madvise(bytes.get(), rounded, MADV_HUGEPAGE);
#endif
  std::mt19937 random(1);
  auto* words = reinterpret_cast<uint32_t*>(bytes.get());
  for (size_t i = 0; i < size / 4; i++)
    words[i] = as_f16 ? 0x20002000U | (random() & 0x03FF03FFU) : random() & 0x2FFF2FFFU;
  return bytes;
}

std::vector<float> random_floats(size_t count) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> floats(count);
  for (float& value : floats) value = normal(random);
  return floats;
}

// Best seconds of work() over enough tries: whatever else the machine does only adds.
double best_seconds(const std::function<void()>& work) {
  std::vector<double> tries;
  double total = 0;
  work();
  while (tries.size() < 5 || (total < 0.2 && tries.size() < 200)) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    tries.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    total += tries.back();
  }
  return *std::min_element(tries.begin(), tries.end());
}

struct Matrix {
  Packing packing;
  uint32_t rows;
  uint32_t cols;
  Bytes bytes;
  PackedMatrix packed() const { return {packing, rows, cols, bytes.get()}; }
  uint32_t tiles() const { return (rows + kTileRows - 1) / kTileRows; }
};

Matrix make_matrix(const Kernels& kernels, Packing packing, uint32_t rows, uint32_t cols) {
  return {packing, rows, cols, random_bytes(kernels.packed_bytes(packing, rows, cols), true)};
}

// A team that runs one function on every thread at a time, spinning between.
class Team {
 public:
  explicit Team(uint32_t threads) : threads_(threads) {
    for (uint32_t t = 1; t < threads; t++) {
      others_.emplace_back([this, t] {
        for (uint32_t seen = 0;;) {
          while (turn_.load(std::memory_order_acquire) == seen) cpu_relax();
          seen++;
          if (stop_) return;
          (*work_)(t);
          done_.fetch_add(1, std::memory_order_release);
        }
      });
    }
  }
  ~Team() {
    stop_ = true;
    turn_.fetch_add(1);
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  void run(const std::function<void(uint32_t)>& work) {
    work_ = &work;
    done_.store(0);
    turn_.fetch_add(1, std::memory_order_release);
    work(0);
    while (done_.load(std::memory_order_acquire) + 1 < threads_) cpu_relax();
  }
  uint32_t threads() const { return threads_; }

 private:
  uint32_t threads_;
  const std::function<void(uint32_t)>* work_ = nullptr;
  std::atomic<uint32_t> turn_{0};
  std::atomic<uint32_t> done_{0};
  bool stop_ = false;
  std::vector<std::jthread> others_;
};

void team_matmul(const Kernels& kernels, Team& team, const Matrix& m, const Activations& a, float* out) {
  team.run([&](uint32_t t) {
    kernels.matmul(m.packed(), a, m.tiles() * t / team.threads(), m.tiles() * (t + 1) / team.threads(), out,
                   m.rows, false);
  });
}

void bench_shapes(const Kernels& kernels, Team& team, const Ceilings& ceilings) {
  struct Shape {
    const char* name;
    Packing packing;
    uint32_t rows;
    uint32_t cols;
  };
  const Shape shapes[] = {{"q4_1 attention out", Packing::kInt4Affine, 576, 576},
                          {"q4_1 key", Packing::kInt4Affine, 192, 576},
                          {"q4_1 gate", Packing::kInt4Affine, 1536, 576},
                          {"q4_1 down", Packing::kInt4Affine, 576, 1536},
                          {"q4_0 gate", Packing::kInt4Symmetric, 1536, 576},
                          {"iq4_nl gate", Packing::kInt4Codebook, 1536, 576},
                          {"q5_0 gate", Packing::kInt5Symmetric, 1536, 576},
                          {"q5_1 gate", Packing::kInt5Affine, 1536, 576},
                          {"q4_k gate", Packing::kInt4Super, 1536, 768},
                          {"q5_k gate", Packing::kInt5Super, 1536, 768},
                          {"q6_k gate", Packing::kInt6Super, 1536, 768},
                          {"q8_0 gate", Packing::kInt8Symmetric, 1536, 576},
                          {"q8_0 head", Packing::kInt8Symmetric, 49152, 576},
                          {"bf16 gate", Packing::kBFloat16, 1536, 576},
                          {"f16 gate", Packing::kFloat16, 1536, 576},
                          {"f32 gate", Packing::kFloat32, 1536, 576}};
  for (const Shape& shape : shapes) {
    const Matrix m = make_matrix(kernels, shape.packing, shape.rows, shape.cols);
    const bool integer = is_quantised(shape.packing);
    const double peak = integer ? ceilings.integer_macs : ceilings.float_macs;
    for (const uint32_t tokens : {1U, 2U, 4U, 8U, 9U, 16U, 32U, 128U, 512U}) {
      if (shape.rows > 10000 && tokens > 32) continue;
      const std::vector<float> x = random_floats(static_cast<size_t>(tokens) * shape.cols);
      const Bytes panel =
          random_bytes(kernels.activation_bytes(shape.packing, tokens, shape.cols) + 64, false);
      const Activations a{tokens, shape.cols, shape.packing, panel.get()};
      kernels.pack_activations(x.data(), shape.cols, whole(a), a);
      std::vector<float> out(static_cast<size_t>(tokens) * shape.rows);
      const double seconds = best_seconds([&] { team_matmul(kernels, team, m, a, out.data()); });
      const double macs = static_cast<double>(tokens) * shape.rows * shape.cols / seconds;
      const double bytes =
          static_cast<double>(kernels.packed_bytes(shape.packing, shape.rows, shape.cols)) / seconds;
      std::printf("%-12s x%u %-19s M=%-4u %8.1f us %8.1f GMAC/s %5.1f%% of peak %7.2f GB/s of weights\n",
                  kernels.name, team.threads(), shape.name, tokens, seconds * 1e6, macs * 1e-9,
                  100 * macs / peak, bytes * 1e-9);
    }
  }
}

// All matrices of the model in order, as a step streams them.
void bench_model(const Kernels& kernels, Team& team, const Ceilings& ceilings) {
  std::vector<Matrix> matrices;
  for (int layer = 0; layer < 30; layer++) {
    for (const auto& [rows, cols] : {std::pair{576U, 576U},
                                     {192U, 576U},
                                     {192U, 576U},
                                     {576U, 576U},
                                     {1536U, 576U},
                                     {1536U, 576U},
                                     {576U, 1536U}}) {
      matrices.push_back(make_matrix(kernels, Packing::kInt4Affine, rows, cols));
    }
  }
  matrices.push_back(make_matrix(kernels, Packing::kInt8Symmetric, 49152, 576));
  double single = 0;
  for (const uint32_t tokens : {1U, 2U, 4U, 8U, 9U, 16U, 32U, 512U}) {
    const std::vector<float> x = random_floats(static_cast<size_t>(tokens) * 1536);
    const Bytes panel = random_bytes(static_cast<size_t>(tokens) * 1536 * 2, false);
    std::vector<float> out(static_cast<size_t>(tokens) * (tokens > 64 ? 1536 : 49152));
    double macs = 0;
    double bytes = 0;
    const double seconds = best_seconds([&] {
      macs = bytes = 0;
      for (const Matrix& m : matrices) {
        // A prompt needs logits of its last token alone.
        const uint32_t here = m.rows == 49152 && tokens > 64 ? 1 : tokens;
        const Activations a{here, m.cols, m.packing, panel.get()};
        if (m.cols == 1536 || m.rows != 192) kernels.pack_activations(x.data(), m.cols, whole(a), a);
        team_matmul(kernels, team, m, a, out.data());
        macs += static_cast<double>(here) * m.rows * m.cols;
        bytes += static_cast<double>(kernels.packed_bytes(m.packing, m.rows, m.cols));
      }
    });
    if (tokens == 1) single = seconds;
    std::printf(
        "%-12s x%u model matmuls      M=%-4u %8.2f ms %8.1f tok/s %6.1f GMAC/s %5.1f%% of int8 peak %6.2f "
        "GB/s %5.1f%% of read "
        "bandwidth, %.2f of a single step\n",
        kernels.name, team.threads(), tokens, seconds * 1e3, tokens / seconds, macs / seconds * 1e-9,
        100 * macs / seconds / ceilings.integer_macs, bytes / seconds * 1e-9,
        100 * bytes / seconds / ceilings.read_bytes, seconds / single);
  }
}

void bench_attention(const Kernels& kernels, const Ceilings& one, KvFormat format) {
  constexpr uint32_t head_dim = 64;
  constexpr uint32_t heads = 3;
  for (const auto& [positions, context] :
       {std::pair{512U, 1U}, {1U, 512U}, {9U, 512U}, {1U, 4096U}, {64U, 2048U}}) {
    const uint32_t tokens = context + positions - 1;
    const uint32_t blocks = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    const size_t part = kv_part_words(format, head_dim, kKvBlockTokens);
    const Bytes kv = random_bytes(blocks * part * 4, false);
    std::vector<const uint16_t*> table;
    for (uint32_t b = 0; b < blocks; b++)
      table.push_back(reinterpret_cast<uint16_t*>(kv.get()) + b * part * 2);
    const std::vector<float> queries = random_floats(static_cast<size_t>(positions) * heads * head_dim);
    std::vector<float> out(queries.size());
    const Bytes scratch = random_bytes(kernels.attention_scratch_floats(head_dim) * 4, false);
    const AttentionTask task{queries.data(),
                             heads * head_dim,
                             out.data(),
                             heads * head_dim,
                             positions,
                             heads,
                             context,
                             table.data(),
                             0,
                             part,
                             0,
                             0,
                             format};
    const double seconds = best_seconds(
        [&] { kernels.attention(task, head_dim, 0.125F, reinterpret_cast<float*>(scratch.get())); });
    const double seen = positions * (context + (positions - 1) / 2.0);
    const double macs = seen * heads * head_dim * 2 / seconds;
    std::printf(
        "%-12s x1 attention %s %4u positions from %4u  %8.1f us %7.1f GMAC/s %5.1f%% of f32 peak %6.2f GB/s "
        "of "
        "KV\n",
        kernels.name, format == KvFormat::kInt8 ? "int8" : "f16 ", positions, context, seconds * 1e6,
        macs * 1e-9, 100 * macs / one.float_macs, static_cast<double>(blocks * part * 4) / seconds * 1e-9);
  }
}

// Attention of a whole decode step with much context, KV paged as the pool keeps it, heads and segments
// shared out over the team; beside it the same bytes merely read.
void bench_long(const Kernels& kernels, Team& team, KvFormat format) {
  constexpr uint32_t layers = 30;
  constexpr uint32_t kv_heads = 3;
  constexpr uint32_t heads = 3;
  constexpr uint32_t head_dim = 64;
  constexpr uint32_t context = 8192;
  constexpr uint32_t segments_a_chunk = 2048 / kAttentionSegment;
  constexpr uint32_t segments = attention_segments(context);
  constexpr uint32_t blocks = context / kKvBlockTokens;
  const size_t part = kv_part_words(format, head_dim, kKvBlockTokens);
  const size_t block_words = size_t{layers} * kv_heads * 2 * part;
  const Bytes kv = random_bytes(blocks * block_words * 2, false);
  std::vector<const uint16_t*> table;
  for (uint32_t b = 0; b < blocks; b++)
    table.push_back(reinterpret_cast<uint16_t*>(kv.get()) + b * block_words);
  const std::vector<float> queries = random_floats(9 * kv_heads * heads * head_dim);
  std::vector<float> out(queries.size());
  for (const uint32_t positions : {1U, 9U}) {
    const size_t partial = positions * heads * attention_partial_floats(head_dim);
    const Bytes partials = random_bytes(kv_heads * segments * partial * 4, false);
    std::vector<Bytes> scratch;
    for (uint32_t t = 0; t < team.threads(); t++)
      scratch.push_back(random_bytes(kernels.attention_scratch_floats(head_dim) * 4, false));
    const auto task = [&](uint32_t layer, uint32_t head) {
      const size_t key = (size_t{layer} * kv_heads + head) * 2 * part;
      const size_t stride = size_t{kv_heads} * heads * head_dim;
      return AttentionTask{queries.data() + head * heads * head_dim,
                           stride,
                           out.data() + head * heads * head_dim,
                           stride,
                           positions,
                           heads,
                           context - positions + 1,
                           table.data(),
                           key,
                           key + part,
                           0,
                           0,
                           format};
    };
    const double seconds = best_seconds([&] {
      for (uint32_t layer = 0; layer < layers; layer++) {
        std::atomic<uint32_t> next{0};
        team.run([&](uint32_t t) {
          auto* floats = reinterpret_cast<float*>(scratch[t].get());
          auto* all = reinterpret_cast<float*>(partials.get());
          for (uint32_t chunk; (chunk = next.fetch_add(1)) < kv_heads * segments / segments_a_chunk;) {
            const uint32_t head = chunk / (segments / segments_a_chunk);
            const uint32_t begin = chunk % (segments / segments_a_chunk) * segments_a_chunk;
            kernels.attention_partials(task(layer, head), head_dim, 0.125F, begin, begin + segments_a_chunk,
                                       all + (head * segments + begin) * partial, floats);
          }
        });
        for (uint32_t head = 0; head < kv_heads; head++) {
          kernels.attention_join(task(layer, head), head_dim,
                                 reinterpret_cast<float*>(partials.get()) + head * segments * partial,
                                 segments, reinterpret_cast<float*>(scratch[0].get()));
        }
      }
    });
    const double bytes = static_cast<double>(blocks * block_words * 2);
    const double macs = 2.0 * layers * kv_heads * heads * head_dim * positions * context;
    std::printf("%-12s x%u step's attention at %u, %s, %u positions: %.2f ms, %.1f GB/s of KV, %.1f GMAC/s\n",
                kernels.name, team.threads(), context, format == KvFormat::kInt8 ? "int8" : "f16", positions,
                seconds * 1e3, bytes / seconds * 1e-9, macs / seconds * 1e-9);
  }
}

void bench_rows(const Kernels& kernels) {
  for (const auto& shape :
       {std::pair{1U, 576U}, {2U, 576U}, {8U, 576U}, {9U, 576U}, {70U, 576U}, {70U, 1536U}}) {
    const uint32_t tokens = shape.first;
    const uint32_t cols = shape.second;
    const std::vector<float> x = random_floats(static_cast<size_t>(tokens) * cols);
    const std::vector<float> weight = random_floats(cols);
    const Bytes panel =
        random_bytes(kernels.activation_bytes(Packing::kInt4Affine, tokens, cols) + 64, false);
    const Activations a{tokens, cols, Packing::kInt4Affine, panel.get()};
    const auto report = [&](const char* what, double seconds) {
      std::printf("%-12s x1 %-8s M=%-3u %4u cols  %7.3f us a token %6.2f ns a value\n", kernels.name, what,
                  tokens, cols, seconds * 1e6 / tokens, seconds * 1e9 / tokens / cols);
    };
    report("pack", best_seconds([&] { kernels.pack_activations(x.data(), cols, whole(a), a); }));
    report("norm", best_seconds([&] {
             kernels.norm_pack_activations(x.data(), cols, weight.data(), 1e-5F, 0, tokens, a);
           }));
    report("silu",
           best_seconds([&] { kernels.silu_pack_activations(x.data(), x.data(), cols, whole(a), a); }));
  }
}

// RoPE and storing of K and V, hot: a layer's of 64 tokens, by runs as prompts have them and token by token.
void bench_heads(const Kernels& kernels) {
  constexpr uint32_t tokens = 64;
  constexpr uint32_t heads = 9;
  constexpr uint32_t kv_heads = 3;
  constexpr uint32_t head_dim = 64;
  constexpr uint32_t stride = (heads + 2 * kv_heads) * head_dim;
  std::vector<float> x = random_floats(size_t{tokens} * stride);
  const std::vector<float> cosines(head_dim / 2, 0.6F);
  const std::vector<float> sines(head_dim / 2, 0.8F);
  const auto report = [&](const char* what, uint32_t values, double seconds) {
    std::printf("%-12s x1 %-32s %7.3f us a token %6.2f ns a value\n", kernels.name, what,
                seconds * 1e6 / tokens, seconds * 1e9 / tokens / values);
  };
  for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
    report(style == RopeStyle::kHalves ? "rope, halves" : "rope, interleaved", (heads + kv_heads) * head_dim,
           best_seconds([&] {
             for (uint32_t t = 0; t < tokens; t++) {
               kernels.rope(&x[size_t{t} * stride], heads + kv_heads, head_dim, head_dim, cosines.data(),
                            sines.data(), style);
             }
           }));
  }
  for (const KvFormat format : {KvFormat::kFloat16, KvFormat::kInt8}) {
    const size_t part = kv_part_words(format, head_dim, kKvBlockTokens);
    const Bytes blocks = random_bytes(tokens / kKvBlockTokens * kv_heads * 2 * part * 2, false);
    for (const uint32_t run : {1U, 8U, 14U, 32U}) {
      const double seconds = best_seconds([&] {
        for (uint32_t t = 0; t < tokens;) {
          const uint32_t slot = t % kKvBlockTokens;
          const uint32_t here = std::min({run, tokens - t, kKvBlockTokens - slot});
          for (uint32_t h = 0; h < kv_heads; h++) {
            const float* key = &x[size_t{t} * stride + (heads + h) * head_dim];
            auto* keys = reinterpret_cast<uint16_t*>(blocks.get()) +
                         (size_t{t / kKvBlockTokens} * kv_heads + h) * 2 * part;
            kernels.store_kv(format, {key, key + kv_heads * head_dim, stride, here}, head_dim, slot, keys,
                             keys + part);
          }
          t += here;
        }
      });
      const std::string what = std::string("store k, v, ") + (format == KvFormat::kInt8 ? "int8" : "f16") +
                               ", runs of " + std::to_string(run);
      report(what.c_str(), 2 * kv_heads * head_dim, seconds);
    }
  }
}

void bench_family(const Kernels& kernels, uint32_t threads, const char* what) {
  constexpr size_t model_bytes = size_t{96} << 20;
  const Ceilings one = measure_ceilings(kernels, 1, model_bytes);
  const Ceilings all = measure_ceilings(kernels, threads, model_bytes);
  const Ceilings memory = measure_ceilings(kernels, threads, size_t{1} << 30);
  for (const auto& [count, c] : {std::pair{1U, one}, {threads, all}}) {
    std::printf("%-12s x%u ceilings: int8 %.1f GMAC/s, f32 %.1f GMAC/s, read 96 MiB %.1f GB/s\n",
                kernels.name, count, c.integer_macs * 1e-9, c.float_macs * 1e-9, c.read_bytes * 1e-9);
  }
  std::printf("%-12s x%u read 1 GiB %.1f GB/s\n", kernels.name, threads, memory.read_bytes * 1e-9);
  Team team(threads);
  const auto wanted = [&](const char* part) { return *what == '\0' || std::strcmp(what, part) == 0; };
  if (wanted("shapes")) bench_shapes(kernels, team, all);
  if (wanted("model")) bench_model(kernels, team, all);
  if (wanted("attention")) {
    bench_attention(kernels, one, KvFormat::kFloat16);
    bench_attention(kernels, one, KvFormat::kInt8);
  }
  if (wanted("long")) {
    bench_long(kernels, team, KvFormat::kFloat16);
    bench_long(kernels, team, KvFormat::kInt8);
  }
  if (wanted("rows")) bench_rows(kernels);
  if (wanted("heads")) bench_heads(kernels);
}

}  // namespace
}  // namespace streamserve

int main(int count, char** arguments) {
  const char* family = count > 1 ? arguments[1] : "";
  const int threads = count > 2 ? std::atoi(arguments[2]) : 1;
  const char* what = count > 3 ? arguments[3] : "";
  if (threads < 1 || threads > 256) {
    std::fprintf(stderr,
                 "usage: kernels-bench [family|all] [threads] [shapes|model|attention|long|rows|heads]\n");
    return 2;
  }
  bool any = false;
  for (const streamserve::Kernels* kernels : streamserve::kernel_families()) {
    if (!kernels->supported() ||
        (std::strcmp(family, kernels->name) != 0 && *family != '\0' && std::strcmp(family, "all") != 0))
      continue;
    any = true;
    streamserve::bench_family(*kernels, static_cast<uint32_t>(threads), what);
  }
  if (!any) std::fprintf(stderr, "kernels-bench: this processor runs no family called %s\n", family);
  return any ? 0 : 1;
}
