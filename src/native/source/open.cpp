#include "source/open.h"

#include "gguf/gguf.h"
#include "safetensors/model.h"

namespace streamserve {

ModelSource open_model_source(const std::string& path) {
  return is_safetensors_model(path) ? read_safetensors_model(path) : read_gguf(File(path));
}

}  // namespace streamserve
