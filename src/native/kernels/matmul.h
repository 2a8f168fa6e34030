// Drives a family's micro-kernels over tiles and panels.
//
// A micro-kernel computes MT tokens (a panel) by NT tiles over all of k, keeping its sums in registers; each
// sum is the same chain of operations in every shape. Tiles are the outer loop, so weights are streamed from
// memory once however many panels there are; panels are taken in runs that stay in the second-level cache.
//
// Packings that no micro-kernel takes are expanded (expand.h) a piece of k of one tile at a time, once for
// all panels of a run; between pieces the sums wait in memory, which changes nothing in them.
#pragma once

#include "expand.h"
#include "layout.h"

namespace streamserve {
namespace {

// Bytes of activations in one run of panels, and of weights in one block of tiles: together three quarters of
// the smallest second-level cache we tune for (512 KiB).
inline constexpr size_t kPanelRunBytes = 256 * 1024;
inline constexpr size_t kTileBlockBytes = 128 * 1024;
// Groups of a piece of k that is expanded at once: for many panels half of a first-level cache of 32 KiB with
// their activations; for one panel so few that expanding reads memory while the piece before is multiplied.
inline constexpr uint32_t kPieceGroups = 16;
inline constexpr uint32_t kPieceGroupsOnePanel = 8;
// Panels of a run where sums wait: so that they have a place on the stack.
inline constexpr uint32_t kMostWaitingPanels = 32;

// How far ahead of its use a weight that comes from memory is asked for. With more than a few tokens too much
// arithmetic lies between two lines for the processor to look far enough by itself; 4 and 16 KiB were no
// better.
inline constexpr size_t kReadAheadBytes = 8 * 1024;

// One micro-kernel call: `tiles` consecutive tiles, of which the last may have fewer than kTileRows rows.
struct TileJob {
  const uint8_t* panel;
  const uint8_t* tile;
  size_t tile_bytes;
  uint32_t cols;
  float* out;  // token 0, first row of the first tile
  size_t stride;
  uint32_t rows;  // rows left in the matrix from the first tile on
  bool accumulate;
  // Where sums come from and go to between the pieces of a tile, [token][kTileRows]; nullptr: zero and `out`.
  const float* resumed = nullptr;
  float* waiting = nullptr;
  // Whether the tile is read for the first time in this pass over the matrix, from memory as a rule.
  bool streamed = false;
};

// Asks for kBytes of weights, kReadAheadBytes after the place `at` of a job's tile. That is not bounded by
// the tiles wanted, nor by the matrix: what lies behind is what a step reads next, as weights lie in order of
// use, and to ask for what no memory has does nothing.
template <size_t kBytes>
inline __attribute__((always_inline)) void read_ahead(const TileJob& job, size_t at) {
  if (!job.streamed) return;
#pragma GCC unroll 64
  for (size_t line = 0; line < kBytes; line += 64) __builtin_prefetch(job.tile + at + kReadAheadBytes + line);
}

using TileFunction = void (*)(const TileJob&);

// What to call for panels of one width: `wide` takes `tiles` tiles at once, `narrow` takes one.
struct PanelKernel {
  TileFunction wide;
  TileFunction narrow;
  uint32_t tiles;
};

// Writes the sums of one tile and token: 16 rows, or the `rows` that exist.
inline void write_sums(float* out, const Lanes& sums, uint32_t rows, bool accumulate) {
  if (rows >= kTileRows) {
    store(out, accumulate ? add(load(out), sums) : sums);
  } else {
    store_some(out, accumulate ? add(load_some(out, rows), sums) : sums, rows);
  }
}

// What the sums of a token start from.
inline Lanes first_sums(const TileJob& job, uint32_t token) {
  return job.resumed ? load(job.resumed + token * kTileRows) : zero();
}

// Where the sums of a token go.
inline void last_sums(const TileJob& job, uint32_t token, const Lanes& sums) {
  if (job.waiting) {
    store(job.waiting + token * kTileRows, sums);
  } else {
    write_sums(job.out + token * job.stride, sums, job.rows, job.accumulate);
  }
}

inline void run_panel(const PanelKernel& kernel, TileJob job, uint32_t tiles) {
  if (tiles == kernel.tiles) {
    kernel.wide(job);
    return;
  }
  for (uint32_t t = 0; t < tiles; t++) {
    kernel.narrow(job);
    job.tile += job.tile_bytes;
    job.out += kTileRows;
    job.rows -= kTileRows;
  }
}

// How many things of `bytes` fit `cache`, in steps and at least one step.
inline uint32_t fitting(size_t cache, size_t bytes, uint32_t step) {
  const size_t steps = cache / (bytes * step);
  return steps == 0 ? step : static_cast<uint32_t>(steps) * step;
}

// `kernels[w - 1]` is for panels of w tokens, 1 to `widest`.
inline void run_matmul(const PanelKernel* kernels, uint32_t widest, const PackedMatrix& w,
                       const Activations& a, uint32_t tile_begin, uint32_t tile_end, float* out,
                       size_t stride, bool accumulate) {
  const PanelSplit split = split_panels(a.tokens, widest);
  const size_t bytes_a_token = token_bytes(w.packing, w.cols);
  const size_t bytes_a_tile = tile_bytes(w.packing, w.cols);
  const size_t panel_bytes = bytes_a_token * (split.width + (split.wide ? 1 : 0));
  const uint32_t run = fitting(kPanelRunBytes, panel_bytes, 1);
  const uint32_t step = kernels[split.width - 1].tiles;
  const uint32_t block = fitting(kTileBlockBytes, bytes_a_tile, step);
  for (uint32_t panel_begin = 0; panel_begin < split.panels; panel_begin += run) {
    const uint32_t panel_end = split.panels - panel_begin < run ? split.panels : panel_begin + run;
    for (uint32_t block_begin = tile_begin; block_begin < tile_end; block_begin += block) {
      const uint32_t block_end = tile_end - block_begin < block ? tile_end : block_begin + block;
      for (uint32_t panel = panel_begin; panel < panel_end; panel++) {
        const uint32_t token = split.begin(panel);
        for (uint32_t tile = block_begin; tile < block_end; tile += step) {
          TileJob job{a.data + token * bytes_a_token,
                      w.data + tile * bytes_a_tile,
                      bytes_a_tile,
                      w.cols,
                      out + token * stride + static_cast<size_t>(tile) * kTileRows,
                      stride,
                      w.rows - tile * kTileRows,
                      accumulate};
          job.streamed = panel == panel_begin;
          run_panel(kernels[split.tokens(panel) - 1], job, block_end - tile < step ? block_end - tile : step);
        }
      }
    }
  }
}

// read_ahead() for a piece of a tile that is about to be expanded.
template <Packing kPacking>
inline void read_piece_ahead(const uint8_t* tile, uint32_t group, uint32_t groups) {
  constexpr size_t kGroupBytes = unit_bytes(kPacking) / unit_groups(kPacking);
  const uint8_t* const at = tile + group * kGroupBytes + kReadAheadBytes;
  for (size_t line = 0; line < groups * kGroupBytes; line += 64) __builtin_prefetch(at + line);
}

// run_matmul() where tiles are expanded: `kernels` are those of the working packing.
template <Packing kPacking, uint32_t kWidest>
inline void run_expanded_matmul(const PanelKernel* kernels, const PackedMatrix& w, const Activations& a,
                                uint32_t tile_begin, uint32_t tile_end, float* out, size_t stride,
                                bool accumulate) {
  constexpr Packing kWorking = working_packing(kPacking);
  alignas(64) uint8_t expanded[tile_bytes(kWorking, kPieceGroups * kGroup)];
  alignas(64) float waiting[kMostWaitingPanels * kWidest * kTileRows];
  const PanelSplit split = split_panels(a.tokens, kWidest);
  const size_t bytes_a_token = token_bytes(kPacking, w.cols);
  const size_t fitting_run = fitting(kPanelRunBytes, bytes_a_token * (split.width + (split.wide ? 1 : 0)), 1);
  const auto run = static_cast<uint32_t>(fitting_run < kMostWaitingPanels ? fitting_run : kMostWaitingPanels);
  const uint32_t piece = split.panels == 1 ? kPieceGroupsOnePanel : kPieceGroups;
  const uint32_t groups = w.cols / kGroup;
  for (uint32_t panel_begin = 0; panel_begin < split.panels; panel_begin += run) {
    const uint32_t panel_end = split.panels - panel_begin < run ? split.panels : panel_begin + run;
    for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
      const size_t bytes_a_tile = tile_bytes(kPacking, w.cols);
      const uint8_t* packed = w.data + tile * bytes_a_tile;
      for (uint32_t group = 0; group < groups; group += piece) {
        const uint32_t here = groups - group < piece ? groups - group : piece;
        if (panel_begin == 0) read_piece_ahead<kPacking>(packed, group, here);
        expand_groups<kPacking>(packed, group, here, expanded);
        float* sums = waiting;
        for (uint32_t panel = panel_begin; panel < panel_end; panel++) {
          const uint32_t token = split.begin(panel);
          const uint32_t width = split.tokens(panel);
          const size_t panel_at = token * bytes_a_token;
          const size_t group_at = static_cast<size_t>(group) * width * activation_group_bytes(kPacking);
          TileJob job{a.data + panel_at + group_at,
                      expanded,
                      0,
                      here * kGroup,
                      out + token * stride + static_cast<size_t>(tile) * kTileRows,
                      stride,
                      w.rows - tile * kTileRows,
                      accumulate};
          if (group > 0) job.resumed = sums;
          if (group + here < groups) job.waiting = sums;
          kernels[width - 1].narrow(job);
          sums += width * kTileRows;
        }
      }
    }
  }
}

}  // namespace
}  // namespace streamserve
