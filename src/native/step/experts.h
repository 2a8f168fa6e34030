// Feed-forward by a mixture of experts, over the tokens of one step. A router scores the experts for each
// token; the likeliest few compute it. Every (token, rank) pair is a slot, and slots are sorted by expert, so
// that an expert's weights are read once for all its tokens. Which tokens meet at an expert never shows: a
// token's results are computed as if alone and summed in order of rank.
#pragma once

#include <cstdint>
#include <vector>

#include "compute/aligned.h"
#include "model/model.h"
#include "step/share.h"
#include "step/workspace.h"

namespace streamserve {

class Experts {
 public:
  // Room for `tokens` tokens a step; nothing is allocated for a model without experts.
  Experts(const Model& model, uint32_t tokens);

  // Readies the slots for a step of `tokens` tokens.
  void begin(uint32_t tokens);
  uint32_t slots() const { return tokens_ * used_; }

  // The router's scores, [token][experts]: written by its matrix, read by choose().
  float* scores() const { return scores_.get(); }
  // Chooses the experts of tokens [begin, end), and their weights.
  void choose(uint32_t begin, uint32_t end);
  // Sorts the slots by expert, once all tokens have chosen.
  void sort();
  // Packs the inputs of slots [begin, end) from the tokens' rows.
  void pack_input(const LayerWeights& layer, const float* rows, uint32_t begin, uint32_t end);
  // A share of the experts' gate and up matrices, whose product is packed at once; of their down matrices.
  void gate_up(const LayerWeights& layer, Share share, Workspace& work) const;
  void down(const LayerWeights& layer, Share share) const;
  // Calls visit(expert, slots) for each expert that slots were sorted to.
  template <typename Visit>
  void each_chosen(Visit visit) const {
    for (const Assignment& one : assignments_) visit(one.expert, one.count);
  }
  // What the experts of a token give together.
  void sum(uint32_t token, float* out) const;

 private:
  // Slots [first, first + count) belong to `expert`; their panels begin at byte `panel`.
  struct Assignment {
    uint32_t expert;
    uint32_t first;
    uint32_t count;
    size_t panel;
  };
  // Calls fill(assignment, first, last) for the slots of [begin, end), counted within their expert's.
  template <typename Fill>
  void each_assignment(uint32_t begin, uint32_t end, Fill fill) const;
  // Calls multiply(assignment, first, last) for a share of the units of matrix_of(expert) of all experts.
  template <typename MatrixOf, typename Multiply>
  void each_unit(const LayerWeights& layer, Share share, MatrixOf matrix_of, Multiply multiply) const;

  const Kernels& kernels_;
  const uint32_t width_;
  const uint32_t feed_;
  const uint32_t experts_;
  const uint32_t used_;
  const Gate gate_;
  uint32_t tokens_ = 0;
  // Bytes of panels for one slot, at most.
  size_t slot_bytes_ = 0;

  AlignedArray<float> scores_;           // [token][experts]
  std::vector<uint32_t> chosen_;         // [token][rank]: expert
  std::vector<float> weights_;           // [token][rank]
  std::vector<uint32_t> slot_of_;        // [token][rank]
  std::vector<uint32_t> token_of_;       // [slot]
  std::vector<Assignment> assignments_;  // of experts that have slots, in order of expert
  std::vector<uint32_t> next_slot_;      // [expert]: while sorting
  AlignedArray<float> rows_;             // [slot][width]
  AlignedArray<float> results_;          // [slot][width]
  AlignedArray<uint8_t> inputs_;
  AlignedArray<uint8_t> gated_;
};

}  // namespace streamserve
