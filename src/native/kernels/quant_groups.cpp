#include "quant_groups.h"

#include <cstring>

#include "half.h"
#include "layout.h"

namespace streamserve {
namespace {

uint16_t load_u16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// 16 bytes: k in the low nibbles, k + 16 in the high ones.
void read_nibbles(const uint8_t* nibbles, QuantGroup& result) {
  for (uint32_t k = 0; k < 16; k++) {
    result.quants[k] = nibbles[k] & 15U;
    result.quants[k + 16] = nibbles[k] >> 4;
  }
}

// 4 bytes: bit k is the fifth bit of k.
void read_fifth_bits(const uint8_t* bits, QuantGroup& result) {
  for (uint32_t k = 0; k < kGroup; k++)
    result.quants[k] |= static_cast<uint8_t>((bits[k / 8] >> k % 8 & 1U) << 4);
}

// The 8 pairs of 6-bit s and t of a Q4_K or Q5_K block lie in 12 bytes: the first four of each whole, the
// upper two bits of those bytes with the nibbles of the last four bytes making the other four.
void read_steps(const uint8_t* packed, uint32_t pair, QuantGroup& result) {
  if (pair < 4) {
    result.steps[0] = packed[pair] & 63U;
    result.steps[1] = packed[pair + 4] & 63U;
  } else {
    result.steps[0] = static_cast<uint8_t>((packed[pair + 4] & 15U) | packed[pair - 4] >> 6 << 4);
    result.steps[1] = static_cast<uint8_t>(packed[pair + 4] >> 4 | packed[pair] >> 6 << 4);
  }
}

// Q4_K, Q5_K: d, minimum's d, 12 bytes of steps, then (Q5_K) 32 bytes whose bit g is the fifth bit of group
// g, and for every two groups 32 bytes: the first in the low nibbles.
QuantGroup read_k_group(const uint8_t* block, uint32_t group, bool fifth_bits) {
  QuantGroup result{};
  result.scale = load_u16(block);
  // The minimum is subtracted; we keep what to add.
  result.minimum = load_u16(block + 2) ^ 0x8000U;
  read_steps(block + 4, group, result);
  const uint8_t* fifths = block + 16;
  const uint8_t* nibbles = fifths + (fifth_bits ? 32 : 0) + group / 2 * size_t{32};
  for (uint32_t k = 0; k < kGroup; k++) {
    uint32_t quant = nibbles[k] >> (group % 2 * 4) & 15U;
    if (fifth_bits) quant |= (fifths[k] >> group & 1U) << 4;
    result.quants[k] = static_cast<uint8_t>(quant);
  }
  return result;
}

// Q6_K: for each 128 weights 64 bytes of low nibbles, then for each 128 weights 32 bytes of upper bit pairs,
// then 16 int8 steps and d.
QuantGroup read_q6_k_group(const uint8_t* block, uint32_t group) {
  QuantGroup result{};
  const uint32_t quarter = group % 4;
  const uint8_t* low = block + group / 4 * 64 + quarter % 2 * 32;
  const uint8_t* high = block + 128 + group / 4 * 32;
  for (uint32_t k = 0; k < kGroup; k++) {
    const uint32_t nibble = low[k] >> quarter / 2 * 4 & 15U;
    result.quants[k] = static_cast<uint8_t>(nibble | (high[k] >> quarter * 2 & 3U) << 4);
  }
  std::memcpy(result.steps, block + 192 + group * size_t{2}, 2);
  result.scale = load_u16(block + 208);
  return result;
}

}  // namespace

QuantGroup read_group(Format format, const uint8_t* row, uint32_t group) {
  constexpr uint32_t kGroups = kSuperGroup / kGroup;
  const bool super = is_super(natural_packing(format));
  const uint8_t* block = row + (super ? group / kGroups * format_row_bytes(format, kSuperGroup)
                                      : group * format_row_bytes(format, kGroup));
  if (format == Format::kQ4_K) return read_k_group(block, group % kGroups, false);
  if (format == Format::kQ5_K) return read_k_group(block, group % kGroups, true);
  if (format == Format::kQ6_K) return read_q6_k_group(block, group % kGroups);
  QuantGroup result{};
  result.steps[0] = result.steps[1] = 1;
  result.scale = load_u16(block);
  block += 2;
  if (is_affine(natural_packing(format))) {
    result.minimum = load_u16(block);
    block += 2;
  }
  if (format == Format::kQ8_0) {
    for (uint32_t k = 0; k < kGroup; k++) result.quants[k] = block[k] ^ 0x80U;  // int8 + 128
  } else if (format == Format::kQ5_0 || format == Format::kQ5_1) {
    read_nibbles(block + 4, result);
    read_fifth_bits(block, result);
  } else {
    read_nibbles(block, result);
  }
  return result;
}

void widen_group(Format format, const QuantGroup& group, float* out) {
  const Packing packing = natural_packing(format);
  const float d = f16_to_f32(group.scale);
  if (packing == Packing::kInt4Codebook) {
    for (uint32_t k = 0; k < kGroup; k++) out[k] = d * static_cast<float>(kCodebook[group.quants[k]]);
  } else if (is_affine(packing)) {
    const float scale = d * static_cast<float>(group.steps[0]);
    const float minimum = f16_to_f32(group.minimum) * static_cast<float>(group.steps[1]);
    // The products are exact in f32 (11 + 6 + 5 bits), so this rounds once.
    for (uint32_t k = 0; k < kGroup; k++) out[k] = scale * static_cast<float>(group.quants[k]) + minimum;
  } else {
    const int32_t zero = 1 << (quant_bits(packing) - 1);
    for (uint32_t k = 0; k < kGroup; k++) {
      const auto step = static_cast<int8_t>(group.steps[k / (kGroup / 2)]);
      out[k] = d * static_cast<float>(step) * static_cast<float>(group.quants[k] - zero);
    }
  }
}

}  // namespace streamserve
