#include "model/packed_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <vector>

#include "error.h"

namespace streamserve {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".packed";
constexpr char kTemporarySuffix[] = ".packed.tmp";
// What a process that was killed left behind; no write takes nearly so long.
constexpr auto kAbandoned = std::chrono::hours(1);
// Left free on the disk, so that a cache is never what fills it.
constexpr uint64_t kSpareBytes = 64 << 20;

std::string reason(int error) { return std::strerror(error); }

// Closes, and unlinks unless kept.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail("create");
  }
  ~NewFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::span<const uint8_t> bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t put = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) fail("write");
      done += static_cast<size_t>(put);
    }
  }
  void keep_as(const std::string& path) {
    if (::rename(path_.c_str(), path.c_str()) != 0) fail("rename");
    path_.clear();
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw EngineError(ErrorCode::kInternal,
                      std::string("cannot ") + what + " " + path_ + ": " + reason(errno));
  }

  std::string path_;
  int descriptor_ = -1;
};

struct Held {
  fs::path path;
  uint64_t bytes;
  fs::file_time_type used;
};

bool ends_with(const std::string& text, const char* end) {
  const size_t length = std::strlen(end);
  return text.size() >= length && text.compare(text.size() - length, length, end) == 0;
}

// The directory's packed files; abandoned temporary ones are removed on the way.
std::vector<Held> held_in(const std::string& directory) {
  std::vector<Held> held;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    std::error_code gone;
    const auto used = entry.last_write_time(gone);
    const uint64_t bytes = gone ? 0 : entry.file_size(gone);
    if (gone) continue;
    if (ends_with(name, kSuffix)) held.push_back({entry.path(), bytes, used});
    if (ends_with(name, kTemporarySuffix) && fs::file_time_type::clock::now() - used > kAbandoned) {
      fs::remove(entry.path(), gone);
    }
  }
  return held;
}

}  // namespace

PackedCache::PackedCache(PackedCacheOptions options, PackedContents contents, uint32_t threads)
    : options_(std::move(options)), contents_(std::move(contents)), threads_(threads) {
  Digest name;
  name.add(contents_.model);
  name.add(contents_.plan);
  name.add(contents_.layout);
  path_ = (fs::path(options_.directory) / (hexadecimal(name.finish()) + kSuffix)).string();
}

std::optional<FileMapping> PackedCache::find() {
  if (::access(path_.c_str(), F_OK) != 0) return std::nullopt;
  std::string fault;
  try {
    const File file(path_);
    FileMapping mapping(file);
    if (const auto found = packed_file_fault(mapping.bytes(), contents_, threads_)) {
      fault = *found;
    } else {
      // Its time of use, for eviction; a cache that can't be written still serves.
      static_cast<void>(::utimensat(AT_FDCWD, path_.c_str(), nullptr, 0));
      return mapping;
    }
  } catch (const EngineError& error) {
    fault = error.what();
  }
  notice_ = "The packed weights in " + path_ + " can't be used (" + fault + "): they are packed anew.";
  return std::nullopt;
}

std::optional<FileMapping> PackedCache::store(std::span<const uint8_t> bytes) {
  const auto refuse = [&](const std::string& why) {
    if (!notice_.empty()) notice_ += " ";
    notice_ += "Packed weights are not kept for the next start: " + why + ".";
    return std::nullopt;
  };
  if (bytes.size() > options_.most_bytes) {
    return refuse("they take " + std::to_string(bytes.size() >> 20) +
                  " MiB, more than engine.packedCacheBytes allows");
  }
  try {
    std::error_code error;
    fs::create_directories(options_.directory, error);
    if (error) return refuse("cannot make " + options_.directory + ": " + error.message());
    make_room(bytes.size());
    const fs::space_info space = fs::space(options_.directory, error);
    if (!error && space.available < bytes.size() + kSpareBytes) {
      return refuse("the disk of " + options_.directory + " has too little room");
    }
    write(path_ + "." + std::to_string(::getpid()) + kTemporarySuffix, bytes);
    // Read back as the next start will: what the disk did not take shows now.
    const File file(path_);
    FileMapping mapping(file);
    if (const auto fault = packed_file_fault(mapping.bytes(), contents_, threads_)) return refuse(*fault);
    return mapping;
  } catch (const EngineError& error) {
    return refuse(error.what());
  } catch (const fs::filesystem_error& error) {
    return refuse(error.what());
  }
}

void PackedCache::make_room(uint64_t bytes) const {
  std::vector<Held> held = held_in(options_.directory);
  std::sort(held.begin(), held.end(), [](const Held& a, const Held& b) { return a.used < b.used; });
  uint64_t total = bytes;
  for (const Held& file : held) {
    if (file.path != path_) total += file.bytes;
  }
  for (const Held& file : held) {
    if (total <= options_.most_bytes) break;
    if (file.path == path_) continue;
    std::error_code error;
    // Processes that have it mapped keep it until they end.
    if (fs::remove(file.path, error)) total -= file.bytes;
  }
}

void PackedCache::write(const std::string& temporary, std::span<const uint8_t> bytes) const {
  // Of an earlier process with this number.
  ::unlink(temporary.c_str());
  NewFile file(temporary);
  file.write(bytes);
  file.keep_as(path_);
}

}  // namespace streamserve
