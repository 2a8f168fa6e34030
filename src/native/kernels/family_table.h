// Builds a family's table from its lanes and lines (included before this) and its shapes.
//
// `Shapes` says kName, supported(), kWidestInteger and kWidestFloat (tokens of a panel), kAttentionRows,
// kAttentionWide, and `template <Packing, uint32_t tokens> static constexpr PanelKernel kernel()`.
#pragma once

#include <utility>

#include "activations.h"
#include "attention.h"
#include "block_peaks.h"
#include "float_tiles.h"
#include "heads.h"
#include "kernels.h"
#include "matmul.h"
#include "pack.h"

namespace streamserve {
namespace {

template <uint32_t kWidest>
struct PanelKernels {
  PanelKernel by_width[kWidest];
};

template <typename Shapes>
struct FamilyTable {
  template <Packing kPacking>
  static constexpr uint32_t widest() {
    return is_quantised(kPacking) ? Shapes::kWidestInteger : Shapes::kWidestFloat;
  }

  template <Packing kPacking, uint32_t... kWidths>
  static constexpr PanelKernels<sizeof...(kWidths)> kernels_of(std::integer_sequence<uint32_t, kWidths...>) {
    return {{Shapes::template kernel<kPacking, kWidths + 1>()...}};
  }

  template <Packing kPacking>
  static constexpr PanelKernels<widest<kPacking>()> kKernels =
      kernels_of<kPacking>(std::make_integer_sequence<uint32_t, widest<kPacking>()>());

  template <Packing kPacking>
  static void matmul_of(const PackedMatrix& w, const Activations& a, uint32_t tile_begin, uint32_t tile_end,
                        float* out, size_t stride, bool accumulate) {
    constexpr Packing kWorking = working_packing(kPacking);
    if constexpr (kWorking == kPacking) {
      run_matmul(kKernels<kPacking>.by_width, widest<kPacking>(), w, a, tile_begin, tile_end, out, stride,
                 accumulate);
    } else {
      run_expanded_matmul<kPacking, widest<kPacking>()>(kKernels<kWorking>.by_width, w, a, tile_begin,
                                                        tile_end, out, stride, accumulate);
    }
  }

  static void matmul(const PackedMatrix& w, const Activations& a, uint32_t tile_begin, uint32_t tile_end,
                     float* out, size_t stride, bool accumulate) {
    auto* of_packing = matmul_of<Packing::kFloat32>;
    switch (w.packing) {
      case Packing::kInt4Affine:
        of_packing = matmul_of<Packing::kInt4Affine>;
        break;
      case Packing::kInt4Symmetric:
        of_packing = matmul_of<Packing::kInt4Symmetric>;
        break;
      case Packing::kInt4Codebook:
        of_packing = matmul_of<Packing::kInt4Codebook>;
        break;
      case Packing::kInt4Super:
        of_packing = matmul_of<Packing::kInt4Super>;
        break;
      case Packing::kInt5Affine:
        of_packing = matmul_of<Packing::kInt5Affine>;
        break;
      case Packing::kInt5Symmetric:
        of_packing = matmul_of<Packing::kInt5Symmetric>;
        break;
      case Packing::kInt5Super:
        of_packing = matmul_of<Packing::kInt5Super>;
        break;
      case Packing::kInt6Super:
        of_packing = matmul_of<Packing::kInt6Super>;
        break;
      case Packing::kInt8Symmetric:
        of_packing = matmul_of<Packing::kInt8Symmetric>;
        break;
      case Packing::kBFloat16:
        of_packing = matmul_of<Packing::kBFloat16>;
        break;
      case Packing::kFloat16:
        of_packing = matmul_of<Packing::kFloat16>;
        break;
      case Packing::kWideAffine:
      case Packing::kWideHalves:
      case Packing::kFloat32:
        break;
    }
    of_packing(w, a, tile_begin, tile_end, out, stride, accumulate);
  }

  using Fill = ActivationKernels<Shapes::kWidestInteger, Shapes::kWidestFloat>;
  using Attend = AttentionKernel<Shapes::kAttentionRows, Shapes::kAttentionWide>;

  static constexpr Kernels table() {
    return {
        .name = Shapes::kName,
        .supported = Shapes::supported,
        .layout = kLayoutName,
        .packed_bytes = packed_bytes,
        .pack = pack,
        .activation_bytes = Fill::bytes,
        .pack_activations = Fill::plain,
        .pack_activations_and_rest = Fill::plain_and_rest,
        .norm_pack_activations = Fill::norm,
        .silu_pack_activations = Fill::silu,
        .gelu_pack_activations = Fill::gelu,
        .matmul = matmul,
        .rope = rope,
        .store_kv = store_kv,
        .attention = Attend::run,
        .attention_partials = Attend::run_segments,
        .attention_join = Attend::join,
        .attention_scratch_floats = Attend::scratch_floats,
        .soft_cap = soft_cap,
        .block_peaks = block_peaks,
        .exp_sum = exp_sum,
        .embed_row = embed_row,
    };
  }
};

}  // namespace
}  // namespace streamserve
