#include "source/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "error.h"

namespace streamserve {
namespace {

// Large enough to make system calls rare, small against any model.
constexpr size_t kBufferBytes = 1 << 18;

}  // namespace

File::File(const std::string& path) : path_(path) {
  if (path.find('\0') != std::string::npos) {
    throw EngineError(ErrorCode::kModelNotFound, "The model path contains a zero byte.");
  }
  // O_NONBLOCK keeps a named pipe from blocking here; it changes nothing for a regular file.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    throw EngineError(ErrorCode::kModelNotFound,
                      "Cannot open the model file " + path + ": " + std::strerror(errno) + ".");
  }
  struct stat status;
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw EngineError(ErrorCode::kModelNotFound, "The model path " + path + " is not a regular file.");
  }
  size_ = static_cast<uint64_t>(status.st_size);
#ifdef __APPLE__
  const timespec& modified = status.st_mtimespec;
#else
  const timespec& modified = status.st_mtim;
#endif
  modified_ns_ = int64_t{modified.tv_sec} * 1'000'000'000 + modified.tv_nsec;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

void File::read(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(descriptor_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw EngineError(ErrorCode::kModelFileInvalid,
                        "Cannot read the model file " + path_ + ": " + std::strerror(errno) + ".");
    }
    if (got == 0) {
      throw EngineError(ErrorCode::kModelFileTruncated, "The model file " + path_ + " ends at byte " +
                                                            std::to_string(offset + done) +
                                                            ", before its contents do; download it again.");
    }
    done += static_cast<size_t>(got);
  }
}

FileCursor::FileCursor(const File& file) : file_(file), buffer_(kBufferBytes) {}

void FileCursor::read(void* out, size_t bytes) {
  uint8_t* to = static_cast<uint8_t*>(out);
  while (bytes > 0) {
    if (next_ == end_) refill();
    const size_t part = std::min(bytes, end_ - next_);
    std::memcpy(to, buffer_.data() + next_, part);
    next_ += part;
    to += part;
    bytes -= part;
  }
}

void FileCursor::refill() {
  buffer_start_ += end_;
  next_ = 0;
  end_ = 0;
  const uint64_t left = file_.size() - std::min(file_.size(), buffer_start_);
  const size_t bytes = static_cast<size_t>(std::max<uint64_t>(1, std::min<uint64_t>(left, buffer_.size())));
  file_.read(buffer_start_, {buffer_.data(), bytes});
  end_ = bytes;
}

void FileCursor::require(uint64_t count, uint64_t bytes, const char* what) const {
  if (count > remaining() / bytes) {
    throw EngineError(ErrorCode::kModelFileTruncated,
                      "The model file " + file_.path() + " announces " + std::to_string(count) + " " + what +
                          " at byte " + std::to_string(position()) + ", more than the " +
                          std::to_string(remaining()) + " bytes left in it can hold; download it again.");
  }
}

}  // namespace streamserve
