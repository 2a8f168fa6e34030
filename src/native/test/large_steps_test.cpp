// Steps of 8,192 tokens through an engine: what a token gives does not depend on them.
#include <vector>

#include "tiny_engine.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

constexpr uint32_t kTokens = 8192;

struct Result {
  std::vector<uint32_t> tokens;
  std::vector<float> logprobs;
};

// The prompt in steps of so many tokens, and two more by single-token steps.
Result generate(const EngineOptions& options, const std::vector<uint32_t>& prompt, uint32_t batch) {
  const auto engine = std::make_shared<Engine>(options);
  const auto lane = engine->open_lane({0, LaneRole::kPrefill, 1, batch});
  SamplingParams how;
  how.temperature = 1;
  how.seed = 5;
  how.logprobs = 0;
  uint32_t cached = 0;
  const SequenceHandle handle = lane->create(prompt, static_cast<uint32_t>(prompt.size()), how, cached);
  Result result;
  const auto step = [&](std::span<const uint32_t> tokens, bool sample) {
    const RowRequest row{handle, tokens, 0, sample};
    lane->submit({&row, 1});
    const StepOutcome outcome = lane->collect();
    for (const Draw& draw : outcome.rows[0].draws) {
      result.tokens.push_back(draw.token);
      result.logprobs.push_back(draw.logprob);
    }
  };
  for (size_t at = 0; at < prompt.size(); at += batch) {
    const size_t count = std::min<size_t>(batch, prompt.size() - at);
    step(std::span(prompt).subspan(at, count), at + count == prompt.size());
  }
  for (int i = 0; i < 2; ++i) {
    const uint32_t last = result.tokens.back();
    step({&last, 1}, true);
  }
  lane->close();
  return result;
}

}  // namespace

// Models with windows: sanitizers would take minutes over 8,192 positions that each see all before them.
UNIT_TEST(large_steps_give_what_small_ones_give) {
  const std::vector<uint32_t> prompt = some_ids(kTokens);
  const StretchedModel llama("mistral", "llama", 2 * kTokens);
  const StretchedModel phi("phi3-q4_1", "phi3", 2 * kTokens);
  for (const StretchedModel* model : {&llama, &phi}) {
    const EngineOptions options = tiny_engine(model->path(), kTokens + 64);
    const Result whole = generate(options, prompt, kTokens);
    const Result pieces = generate(options, prompt, 500);
    CHECK_EQUAL(whole.tokens.size(), size_t{3});
    CHECK(whole.tokens == pieces.tokens);
    CHECK(whole.logprobs == pieces.logprobs);
  }
}

// Everything before is seen, in segments that threads share out.
UNIT_TEST(large_steps_over_a_whole_context_give_what_small_ones_give) {
  const std::vector<uint32_t> prompt = some_ids(1500);
  const StretchedModel model("qwen2-q4_1", "qwen2", kTokens);
  const EngineOptions options = tiny_engine(model.path(), 2048);
  const Result whole = generate(options, prompt, 1500);
  const Result pieces = generate(options, prompt, 333);
  CHECK(whole.tokens == pieces.tokens);
  CHECK(whole.logprobs == pieces.logprobs);
}

}  // namespace streamserve::test
