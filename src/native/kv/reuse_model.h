// How likely an idle KV block is to be asked for again, learnt while serving.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace streamserve {

// Blocks fall into classes by their history. For each class the model counts after how long an idle time its
// blocks were reused or given up, and gives each age a worth: the most reuses per unit of idle time that
// keeping the block any longer can bring, or Gittins' index of the bet (J. C. Gittins, 1979; used on cache
// entries as hit density in Beckmann, Chen and Cidon's LHD, NSDI 2018). Times are counted in blocks asked
// for, so that nothing here reads a clock. src/engine/reuse-model.ts is the same model for the simulated
// pool. Not thread-safe.
class ReuseModel {
 public:
  // Ages are told apart by their two leading bits: two buckets an octave.
  static constexpr uint32_t kAges = 48;
  static uint32_t bucket(uint64_t age);

  explicit ReuseModel(uint32_t classes);

  // An idle block of that class was asked for again after `age`; or was not, and is forgotten.
  void reused(uint32_t kind, uint64_t age) { reused_[place(kind, age)] += 1; }
  void lost(uint32_t kind, uint64_t age) { lost_[place(kind, age)] += 1; }
  // Expected reuses per unit of time of keeping a block of that class and age.
  double worth(uint32_t kind, uint64_t age) const { return worth_[place(kind, age)]; }
  // Works the worths out anew. `waiting` counts, by class and age bucket, the blocks whose end is not known:
  // they have lasted so long, and that is evidence too.
  void refresh(std::span<const double> waiting);

  static size_t place(uint32_t kind, uint64_t age) { return size_t{kind} * kAges + bucket(age); }

 private:
  const uint32_t classes_;
  std::vector<double> reused_;
  std::vector<double> lost_;
  std::vector<double> worth_;
};

}  // namespace streamserve
