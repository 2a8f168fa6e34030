// A file, read by position. Model files are never mapped: a file that shrinks while it is read gives an error
// here where a mapping would raise SIGBUS, and the weights are repacked once anyway, so each byte is read
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace streamserve {

class File {
 public:
  // Throws EngineError `model_not_found` when the path cannot be opened or is not a regular file.
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File(File&& other) noexcept;

  const std::string& path() const { return path_; }
  // Bytes when it was opened.
  uint64_t size() const { return size_; }
  // Modification time when it was opened, in nanoseconds since 1970.
  int64_t modified_ns() const { return modified_ns_; }
  // Open as long as this lives.
  int descriptor() const { return descriptor_; }
  // Fills `out` from `offset`; throws `model_file_truncated` when the file ends first.
  void read(uint64_t offset, std::span<uint8_t> out) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
  int64_t modified_ns_ = 0;
};

// Reads a file front to back through a buffer; every length is checked against what is left of the file
// before anything is allocated for it.
class FileCursor {
 public:
  explicit FileCursor(const File& file);

  uint64_t position() const { return buffer_start_ + next_; }
  uint64_t remaining() const { return file_.size() - position(); }
  // Copies the next bytes; throws `model_file_truncated`.
  void read(void* out, size_t bytes);
  template <typename T>
  T number() {
    T value;
    read(&value, sizeof value);
    return value;
  }
  // Throws `model_file_truncated` unless `count` elements of `bytes` each are left.
  void require(uint64_t count, uint64_t bytes, const char* what) const;

 private:
  void refill();

  const File& file_;
  std::vector<uint8_t> buffer_;
  uint64_t buffer_start_ = 0;
  size_t next_ = 0;
  size_t end_ = 0;
};

}  // namespace streamserve
