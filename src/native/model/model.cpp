#include "model/model.h"

#include <cmath>

#include "error.h"
#include "source/open.h"

namespace streamserve {
namespace {

const Kernels& pick_kernels(const std::string& name) {
  const Kernels* kernels = choose_kernels(name == "auto" ? "" : name.c_str());
  if (kernels) return *kernels;
  std::string known;
  for (const Kernels* family : kernel_families()) {
    known += std::string(known.empty() ? "" : ", ") + family->name +
             (family->supported() ? "" : " (not on this processor)");
  }
  throw EngineError(ErrorCode::kArgumentInvalid,
                    "The instruction set \"" + name + "\" cannot be used; there are: " + known + ".");
}

}  // namespace

Model::Model(const ModelOptions& options) : Model(open_model_source(options.path), options) {}

Model::Model(const ModelSource& source, const ModelOptions& options)
    : config_(read_config(source)),
      kernels_(pick_kernels(options.instruction_set)),
      weights_(source, config_, kernels_, options.exact, options.memory) {
  // By the context that is served, not by each text's length: a text's first tokens must not change when it
  // grows.
  const uint32_t context = options.context_tokens > 0 ? options.context_tokens : config_.context;
  for (size_t r = 0; r < config_.ropes.size(); ++r) {
    // Factors belong to the rotation that the file scales: the first.
    const float* factors =
        r == 0 ? weights_.rope_factors(context > config_.ropes[r].original_context) : nullptr;
    const std::vector<double> own = rope_frequencies(config_.ropes[r], config_.rotated, factors);
    frequencies_.insert(frequencies_.end(), own.begin(), own.end());
    amplitudes_.insert(amplitudes_.end(), own.size(), config_.ropes[r].attention_factor);
  }
}

void Model::rotation(uint32_t position, float* cosines, float* sines) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = position * frequencies_[i];
    cosines[i] = static_cast<float>(std::cos(angle) * amplitudes_[i]);
    sines[i] = static_cast<float>(std::sin(angle) * amplitudes_[i]);
  }
}

}  // namespace streamserve
