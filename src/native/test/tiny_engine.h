// Engines over the tiny models of test/fixtures/families.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace streamserve::test {

// Where a fixture lies, from this directory's parent, where make runs.
std::string tiny_model(const std::string& name);

// The fixture with another context length, in a file of the temporary directory that goes with this.
class StretchedModel {
 public:
  StretchedModel(const std::string& name, const std::string& architecture, uint32_t context);
  ~StretchedModel();
  StretchedModel(const StretchedModel&) = delete;
  StretchedModel& operator=(const StretchedModel&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Two threads and the portable kernels, which are the ones that sanitizers see into.
EngineOptions tiny_engine(const std::string& path, uint32_t kv_tokens = 256);

// Ids below every fixture's vocabulary.
std::vector<uint32_t> some_ids(uint32_t count);

}  // namespace streamserve::test
