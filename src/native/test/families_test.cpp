// A tiny model of each family through an engine and a lane, so that its whole way runs under the sanitizers:
// scores are probabilities and do not depend on how a text is cut. That they are right is checked where
// transformers' results are, in test/engine-families.test.ts.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels_data.h"
#include "tiny_engine.h"
#include "unit_test.h"

namespace streamserve::test {
namespace {

constexpr const char* kModels[] = {"llama", "mistral",   "qwen2-q4_1", "qwen2-yarn",
                                   "qwen3", "gemma",     "gemma2",     "gemma3-q4_1",
                                   "phi3",  "phi3-q4_1", "mixtral",    "qwen3moe-q4_1"};

std::vector<float> scores_of(const std::string& model, uint32_t batch) {
  const auto engine = std::make_shared<Engine>(tiny_engine(tiny_model(model)));
  const std::shared_ptr<Lane> lane = engine->open_lane({0, LaneRole::kPrefill, 1, batch});
  const std::vector<uint32_t> ids = some_ids(70);
  std::vector<float> scores(ids.size() * engine->model().config().vocabulary);
  lane->score(ids, 0, scores);
  lane->close();
  return scores;
}

}  // namespace

UNIT_TEST(families_give_probabilities_that_no_cut_of_the_text_changes) {
  for (const char* model : kModels) {
    const std::vector<float> whole = scores_of(model, 32);
    const size_t vocabulary = whole.size() / 70;
    for (size_t row = 0; row < whole.size(); row += vocabulary) {
      double total = 0;
      for (size_t i = row; i < row + vocabulary; ++i) total += std::exp(static_cast<double>(whole[i]));
      CHECK_NEAR(total, 1, 1e-4);
    }
    for (const uint32_t batch : {1U, 2U, 13U, 20U}) {
      CHECK_EQUAL(first_difference(scores_of(model, batch), whole), ptrdiff_t{-1});
    }
  }
}

}  // namespace streamserve::test
