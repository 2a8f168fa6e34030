// A model ready to compute: its configuration, kernels and packed weights.
#pragma once

#include <memory>
#include <string>

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/weights.h"

namespace streamserve {

struct ModelOptions {
  std::string path;
  // Kernel family by name; "auto" or empty: the best.
  std::string instruction_set;
  // Widen all matrices to f32: slow, and the reference for everything else.
  bool exact = false;
  // The longest context that will be asked for; 0: the model's own.
  uint32_t context_tokens = 0;
  // How packed weights are kept; its threads read and pack at load.
  WeightMemoryOptions memory;
};

class Model {
 public:
  // Throws the model_* errors, `native_argument_invalid` for an instruction set that is unknown or that this
  // processor lacks, `out_of_memory`.
  explicit Model(const ModelOptions& options);

  const ModelConfig& config() const { return config_; }
  const Kernels& kernels() const { return kernels_; }
  const Weights& weights() const { return weights_; }
  // Cosines and sines of all rotations at a position, one after the other: rotated/2 of each.
  void rotation(uint32_t position, float* cosines, float* sines) const;
  // How many of each that are.
  size_t rotation_size() const { return frequencies_.size(); }

 private:
  Model(const ModelSource& source, const ModelOptions& options);

  const ModelConfig config_;
  const Kernels& kernels_;
  const Weights weights_;
  // Of all rotations, and what their cosines and sines are multiplied by.
  std::vector<double> frequencies_;
  std::vector<double> amplitudes_;
};

}  // namespace streamserve
