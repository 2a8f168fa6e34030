#include "source/open.h"

#include "gguf/gguf.h"

namespace streamserve {

ModelSource open_model_source(const std::string& path) { return read_gguf(File(path)); }

}  // namespace streamserve
