// Rows of activations, packed for the matrices that read them: once for each packing among these.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "step/share.h"

namespace streamserve {

// At most three matrices read the same rows.
inline constexpr uint32_t kMostReaders = 3;

// Not owned: panels of `tokens`, each `bytes` long at most.
struct Panels {
  uint8_t* data;
  size_t bytes;
  Tokens tokens;

  static constexpr uint32_t kCount = kMostReaders + 1;
  // The last panel: what quantisation took from the rows.
  static constexpr uint32_t kRest = kMostReaders;

  Activations at(uint32_t index, const PackedMatrix& reader) const {
    return {tokens.count(), reader.cols, reader.packing, data + index * bytes};
  }
  // Some of the batch's tokens, counted from the panels' own.
  ActivationRange range(Tokens some, const PackedMatrix& reader) const {
    return {some.begin - tokens.begin, some.end - tokens.begin, 0, reader.cols};
  }
};

// The matrices that read the same rows.
class Readers {
 public:
  Readers() = default;
  explicit Readers(const PackedMatrix& only) : matrices_{&only}, count_(1) {}
  Readers(const PackedMatrix& first, const PackedMatrix& second) : matrices_{&first, &second}, count_(2) {}
  Readers(const PackedMatrix& first, const PackedMatrix& second, const PackedMatrix& third)
      : matrices_{&first, &second, &third}, count_(3) {}

  std::span<const PackedMatrix* const> all() const { return {matrices_.data(), count_}; }
  const PackedMatrix& operator[](uint32_t reader) const { return *matrices_[reader]; }
  // The panel of a reader: numbered after the first reader of its packing.
  uint32_t panel_of(uint32_t reader) const {
    uint32_t first = 0;
    while (matrices_[first]->packing != matrices_[reader]->packing) ++first;
    return first;
  }
  Activations input(uint32_t reader, const Panels& panels) const {
    return panels.at(panel_of(reader), *matrices_[reader]);
  }
  // Calls visit(activations, range of `tokens`) for each panel to fill.
  template <typename Visit>
  void each_panel(const Panels& panels, Tokens tokens, Visit visit) const {
    for (uint32_t reader = 0; reader < count_; ++reader) {
      if (panel_of(reader) != reader) continue;
      visit(panels.at(reader, *matrices_[reader]), panels.range(tokens, *matrices_[reader]));
    }
  }

 private:
  std::array<const PackedMatrix*, kMostReaders> matrices_{};
  uint32_t count_ = 0;
};

}  // namespace streamserve
