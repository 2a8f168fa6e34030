#include "safetensors/model.h"

#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "error.h"
#include "kernels/kernels.h"
#include "safetensors/config.h"
#include "safetensors/file.h"

namespace streamserve {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".safetensors";
constexpr char kWhole[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
// Configurations are a page of text; an index has a line a tensor.
constexpr uint64_t kMostConfigBytes = 1 << 20;
constexpr uint64_t kMostIndexBytes = 64 << 20;
constexpr size_t kMostShards = 4096;

Json read_json(const fs::path& path, uint64_t most) {
  const File file(path.string());
  if (file.size() > most) {
    throw EngineError(ErrorCode::kModelFileInvalid, path.string() + " is " + std::to_string(file.size()) +
                                                        " bytes long; at most " + std::to_string(most) +
                                                        " are read.");
  }
  std::string text(file.size(), '\0');
  file.read(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return Json::parse(text, path.string());
}

std::optional<Format> stored_format(const std::string& dtype) {
  if (dtype == "F32") return Format::kF32;
  if (dtype == "F16") return Format::kF16;
  if (dtype == "BF16") return Format::kBF16;
  return std::nullopt;
}

class Loader {
 public:
  explicit Loader(const std::string& path) : path_(path), source_(path) {}

  ModelSource load() {
    const bool alone = path_.ends_with(kSuffix) && !fs::is_directory(path_);
    const fs::path directory = alone ? fs::path(path_).parent_path() : fs::path(path_);
    const fs::path config = directory / "config.json";
    const Json json = read_json(config, kMostConfigBytes);
    family_ = &add_hub_config(json, config.string(), source_);
    const Json* tied = json.member("tie_word_embeddings");
    tied_ = tied && tied->boolean() && *tied->boolean();
    heads_ = source_.unsigned_value(key("attention.head_count")).value_or(0);
    kv_heads_ = source_.unsigned_value(key("attention.head_count_kv")).value_or(heads_);
    if (alone) {
      add_file(path_, nullptr);
    } else if (fs::exists(directory / kIndex) && !fs::exists(directory / kWhole)) {
      add_shards(directory);
    } else {
      add_file((directory / kWhole).string(), nullptr);
    }
    add_stacks();
    return std::move(source_);
  }

 private:
  using Owners = std::map<std::string, std::string>;

  std::string key(const char* name) const { return std::string(family_->architecture) + "." + name; }

  void add_shards(const fs::path& directory) {
    const fs::path index = directory / kIndex;
    const Json json = read_json(index, kMostIndexBytes);
    const Json* map = json.member("weight_map");
    if (!map || !map->object()) invalid(index.string() + " has no weight_map");
    Owners owners;
    std::set<std::string> shards;
    for (const auto& [tensor, file] : *map->object()) {
      const std::string* name = file.text();
      // Files of this directory alone: an index must not lead anywhere else.
      if (!name || name->find_first_of("/\\") != std::string::npos || !name->ends_with(kSuffix)) {
        invalid(index.string() + " names no file for tensor " + tensor);
      }
      shards.insert(*name);
      owners.emplace(tensor, *name);
    }
    if (shards.empty() || shards.size() > kMostShards) {
      invalid(index.string() + " names " + std::to_string(shards.size()) + " files");
    }
    for (const std::string& shard : shards) add_file((directory / shard).string(), &owners);
    if (!owners.empty()) {
      invalid(owners.begin()->second + " lacks the tensor " + owners.begin()->first + " that " + kIndex +
              " says is in it");
    }
  }

  // Of a shard only what the index says is in it counts; it is taken from `owners`.
  void add_file(const std::string& path, Owners* owners) {
    File file(path);
    const std::string name = fs::path(path).filename().string();
    const std::vector<StoredTensor> tensors = read_safetensors_header(file);
    const uint32_t number = source_.add_file(std::move(file));
    for (const StoredTensor& tensor : tensors) {
      if (owners) {
        const auto owner = owners->find(tensor.name);
        if (owner == owners->end() || owner->second != name) {
          invalid(path + " has the tensor " + tensor.name + ", which " + kIndex + " does not place there");
        }
        owners->erase(owner);
      }
      add_tensor(tensor, number);
    }
  }

  void add_tensor(const StoredTensor& stored, uint32_t file) {
    // Older files keep the rotation's frequencies, which follow from the configuration; and a head that is
    // tied may be stored twice.
    if (stored.name.ends_with(".rotary_emb.inv_freq") || (tied_ && stored.name == "lm_head.weight")) return;
    const std::optional<GgufName> name = gguf_tensor_name(*family_, stored.name);
    if (!name) {
      throw EngineError(ErrorCode::kModelArchitectureUnsupported,
                        "The model " + path_ + " has the tensor " + stored.name + ", which is no part of a " +
                            std::string(family_->model_type) + " model as this engine knows it.");
    }
    const std::optional<Format> format = stored_format(stored.dtype);
    if (!format) {
      throw EngineError(ErrorCode::kModelFormatUnsupported,
                        "The model " + path_ + " keeps the tensor " + stored.name + " as " + stored.dtype +
                            "; safetensors in F32, F16 and BF16 are read.");
    }
    TensorInfo tensor;
    tensor.name = name->name;
    tensor.format = static_cast<uint32_t>(*format);
    tensor.file = file;
    tensor.offset = stored.offset;
    tensor.bytes = stored.bytes;
    if (stored.shape.empty() || stored.shape.size() > tensor.shape.size() || stored.bytes == 0) {
      invalid("tensor " + stored.name + " has an odd shape");
    }
    tensor.dimensions = static_cast<uint32_t>(stored.shape.size());
    for (uint32_t d = 0; d < tensor.dimensions; ++d) {
      tensor.shape[d] = stored.shape[tensor.dimensions - 1 - d];
    }
    if (name->expert) {
      if (!stacks_[name->name].emplace(*name->expert, std::move(tensor)).second) {
        invalid("tensor " + stored.name + " is there twice");
      }
      return;
    }
    set_view(tensor);
    if (!source_.add_tensor(std::move(tensor))) invalid("tensor " + stored.name + " is there twice");
  }

  // The matrices of all experts in one tensor, as GGUF has them.
  void add_stacks() {
    const uint64_t experts = source_.unsigned_value(key("expert_count")).value_or(0);
    for (auto& [name, experts_of] : stacks_) {
      std::vector<TensorInfo> pieces;
      for (auto& [expert, piece] : experts_of) {
        const TensorInfo& first = pieces.empty() ? piece : pieces.front();
        if (expert != pieces.size() || piece.dimensions != 2 || piece.shape != first.shape ||
            piece.format != first.format) {
          invalid("its experts in " + name + " are not all there, or not alike");
        }
        pieces.push_back(std::move(piece));
      }
      if (pieces.size() != experts) {
        invalid("it has " + std::to_string(pieces.size()) + " of " + std::to_string(experts) +
                " experts in " + name);
      }
      if (!source_.add_stacked(name, std::move(pieces))) invalid("tensor " + name + " is there twice");
    }
  }

  void set_view(TensorInfo& tensor) const {
    const bool vector = tensor.dimensions == 1;
    if (family_->norms_from_one && vector && tensor.name.ends_with("norm.weight")) {
      tensor.view = TensorView::kPlusOne;
      tensor.stored_format = tensor.format;
      tensor.format = static_cast<uint32_t>(Format::kF32);
      tensor.bytes = tensor.shape[0] * sizeof(float);
      return;
    }
    const auto is = [&](std::string_view part) { return tensor.name.find(part) != std::string::npos; };
    if (!family_->interleaved_heads || !(is(".attn_q.") || is(".attn_k."))) return;
    const uint64_t heads = is(".attn_q.") ? heads_ : kv_heads_;
    const uint64_t rows = vector ? tensor.shape[0] : tensor.shape[1];
    if (heads == 0 || rows % (2 * heads) != 0 || tensor.dimensions > 2) {
      invalid("tensor " + tensor.name + " has rows that do not fit " + std::to_string(heads) + " heads");
    }
    tensor.view = TensorView::kInterleavedHeads;
    tensor.heads = static_cast<uint32_t>(heads);
  }

  [[noreturn]] void invalid(const std::string& what) const {
    throw EngineError(ErrorCode::kModelFileInvalid, "The model " + path_ + " is damaged: " + what + ".");
  }

  const std::string path_;
  ModelSource source_;
  const HubFamily* family_ = nullptr;
  bool tied_ = false;
  uint64_t heads_ = 0;
  uint64_t kv_heads_ = 0;
  // By GGUF's name, then by expert.
  std::map<std::string, std::map<uint32_t, TensorInfo>> stacks_;
};

}  // namespace

bool is_safetensors_model(const std::string& path) {
  std::error_code error;
  return path.ends_with(kSuffix) || fs::is_directory(path, error);
}

ModelSource read_safetensors_model(const std::string& path) { return Loader(path).load(); }

}  // namespace streamserve
