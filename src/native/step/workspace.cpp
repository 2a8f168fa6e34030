#include "step/workspace.h"

#include <algorithm>

#include "step/buffers.h"
#include "step/gated.h"

namespace streamserve {

Workspace::Workspace(const Model& model, uint32_t tokens, uint32_t feed_tokens)
    : tokens(tokens),
      panel_bytes(largest_input_panel(model, tokens)),
      panels(aligned_array<uint8_t>(Panels::kCount * panel_bytes)),
      gated(aligned_array<uint8_t>(largest_panel(model, tokens, model.config().feed_forward))),
      feed(aligned_array<float>(gated_floats(feed_tokens))),
      rows(aligned_array<float>(size_t{tokens} * model.config().embedding)) {}

}  // namespace streamserve
