#include "kv/prefix_tier.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <new>
#include <random>
#include <system_error>

#include "model/digest.h"

namespace streamserve {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'S', 'S', 'P', 'R', 'E', 'F', 'I', 'X'};
// Raised when the form of the file or the meaning of its KV changes.
constexpr uint32_t kVersion = 1;
constexpr uint64_t kHeaderBytes = 4096;
// Slots whose table is read at once, some MiB.
constexpr uint64_t kMostSlots = 1 << 16;
// Blocks of a few steps' evictions wait in so much memory.
constexpr size_t kStagingBytes = 32 << 20;
// Weight of the newest reading in what a block takes: about the last ten count.
constexpr double kNewest = 0.1;
// Of so many blocks that would not pay one is read all the same: the disk may have become faster.
constexpr uint32_t kRetry = 256;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t block_tokens;
  uint64_t block_bytes;
  uint64_t slots;
  uint8_t model[16];
  ChainHash root;
  // Of all before.
  uint64_t sum;
};

// Before the tokens of a slot's entry in the table.
struct Entry {
  uint64_t sum;  // of the rest, the tokens, and data_sum
  uint64_t data_sum;
  ChainHash hash;
  ChainHash parent;
};

std::span<const uint8_t> bytes_of(const void* from, size_t bytes) {
  return {static_cast<const uint8_t*>(from), bytes};
}

bool read_all(int file, void* to, size_t bytes, uint64_t offset) {
  auto* at = static_cast<uint8_t*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(file, at, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

bool write_all(int file, const void* from, size_t bytes, uint64_t offset) {
  const auto* at = static_cast<const uint8_t*>(from);
  while (bytes > 0) {
    const ssize_t put = ::pwrite(file, at, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    offset += static_cast<uint64_t>(put);
    bytes -= static_cast<size_t>(put);
  }
  return true;
}

size_t entry_bytes(uint32_t block_tokens) { return sizeof(Entry) + size_t{block_tokens} * sizeof(uint32_t); }

uint64_t slots_within(const PrefixTierOptions& options, const PrefixTierContents& contents) {
  if (options.most_bytes <= kHeaderBytes) return 0;
  const uint64_t each = contents.block_bytes + entry_bytes(contents.block_tokens);
  return std::min(kMostSlots, (options.most_bytes - kHeaderBytes) / each);
}

uint64_t entry_sum(const std::vector<uint8_t>& entry) {
  return checksum(std::span(entry).subspan(sizeof(uint64_t)));
}

// What is wrong with a header, or nothing.
std::string fault(const Header& header, const PrefixTierContents& contents, uint64_t slots) {
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return "it is no file of ours";
  if (header.version != kVersion) return "it is of another version";
  if (header.sum != checksum(bytes_of(&header, offsetof(Header, sum)))) return "its header is damaged";
  if (header.block_bytes != contents.block_bytes || header.block_tokens != contents.block_tokens ||
      std::memcmp(header.model, contents.model.data(), contents.model.size()) != 0) {
    return "it is of another model";
  }
  if (header.slots != slots) return "it is of another size";
  return "";
}

Header new_header(const PrefixTierContents& contents, uint64_t slots) {
  std::random_device random;
  const auto word = [&random] { return uint64_t{random()} << 32 | random(); };
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.block_tokens = contents.block_tokens;
  header.block_bytes = contents.block_bytes;
  header.slots = slots;
  std::memcpy(header.model, contents.model.data(), contents.model.size());
  header.root = {word(), word()};
  header.sum = checksum(bytes_of(&header, offsetof(Header, sum)));
  return header;
}

}  // namespace

std::unique_ptr<PrefixTier> PrefixTier::open(const PrefixTierOptions& options,
                                             const PrefixTierContents& contents, std::string& notice) {
  if (options.directory.empty() || options.most_bytes == 0) return nullptr;
  const fs::path path = fs::path(options.directory) / (hexadecimal(contents.model) + ".prefixes");
  const auto refuse = [&](const std::string& why) {
    notice = "Prefixes are not kept on disk: " + why + ".";
    return nullptr;
  };
  const uint64_t slots = slots_within(options, contents);
  if (slots == 0) {
    return refuse("engine.prefixTierBytes is " + std::to_string(options.most_bytes) + ", and a block takes " +
                  std::to_string(contents.block_bytes));
  }
  std::error_code error;
  fs::create_directories(options.directory, error);
  if (error) return refuse("cannot make " + options.directory + ": " + error.message());
  // What prompts said can be read out of it: for its owner alone.
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return refuse("cannot open " + path.string() + ": " + std::strerror(errno));
  if (::flock(file, LOCK_EX | LOCK_NB) != 0) {
    ::close(file);
    return refuse("another process uses " + path.string());
  }
  Header header{};
  const off_t size = ::lseek(file, 0, SEEK_END);
  const std::string wrong =
      read_all(file, &header, sizeof header, 0) ? fault(header, contents, slots) : "it is cut short";
  if (!wrong.empty()) {
    if (size > 0)
      notice = "The prefixes in " + path.string() + " can't be used (" + wrong + "): it is begun anew.";
    header = new_header(contents, slots);
    if (::ftruncate(file, 0) != 0 || !write_all(file, &header, sizeof header, 0)) {
      const int failed = errno;
      ::close(file);
      return refuse("cannot write " + path.string() + ": " + std::strerror(failed));
    }
  }
  try {
    std::unique_ptr<PrefixTier> tier(new PrefixTier(file, contents, slots, header.root));
    return tier;
  } catch (const std::exception&) {
    return refuse("the system grants no memory or thread for it");
  }
}

PrefixTier::PrefixTier(int file, const PrefixTierContents& contents, uint64_t slots, const ChainHash& root)
    : file_(file), contents_(contents), root_(root) {
  try {
    slots_.resize(slots);
    buffers_ = std::max<size_t>(2, kStagingBytes / contents.block_bytes);
    staging_ = KvMemory(buffers_ * contents.block_bytes / sizeof(uint16_t));
    for (size_t i = 0; i < buffers_; ++i) free_buffers_.push_back(i);
    load();
    writer_ = std::thread([this] { write_loop(); });
  } catch (...) {
    ::close(file_);
    throw;
  }
}

PrefixTier::~PrefixTier() {
  {
    const std::lock_guard guard(lock_);
    stopping_ = true;
  }
  changed_.notify_all();
  writer_.join();
  ::close(file_);
}

uint8_t* PrefixTier::staged(size_t buffer) const {
  return reinterpret_cast<uint8_t*>(staging_.data()) + buffer * contents_.block_bytes;
}

uint64_t PrefixTier::entry_at(size_t index) const {
  return kHeaderBytes + index * entry_bytes(contents_.block_tokens);
}

uint64_t PrefixTier::data_at(size_t index) const {
  return entry_at(slots_.size()) + index * contents_.block_bytes;
}

// Entries that are damaged, or were never written, hold nothing.
void PrefixTier::load() {
  std::vector<uint8_t> entry(entry_bytes(contents_.block_tokens));
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!read_all(file_, entry.data(), entry.size(), entry_at(i))) break;
    Entry fixed{};
    std::memcpy(&fixed, entry.data(), sizeof fixed);
    if (fixed.sum == 0) continue;
    if (fixed.sum != entry_sum(entry)) {
      ++counts_.damaged;
      continue;
    }
    Slot& slot = slots_[i];
    if (!index_.emplace(fixed.hash, i).second) continue;
    slot.held = true;
    slot.sum = fixed.data_sum;
    slot.hash = fixed.hash;
    slot.parent = fixed.parent;
    slot.tokens.resize(contents_.block_tokens);
    std::memcpy(slot.tokens.data(), entry.data() + sizeof fixed, entry.size() - sizeof fixed);
    ++counts_.held;
  }
  empty_.reserve(slots_.size());
  for (size_t i = slots_.size(); i-- > 0;) {
    if (!slots_[i].held) empty_.push_back(i);
  }
}

const PrefixTier::Slot* PrefixTier::find(const BlockName& name, size_t& index) const {
  const auto found = index_.find(name.hash);
  if (found == index_.end()) return nullptr;
  index = found->second;
  const Slot& slot = slots_[index];
  const bool same =
      slot.held && slot.parent == name.parent &&
      std::equal(name.tokens.begin(), name.tokens.end(), slot.tokens.begin(), slot.tokens.end());
  return same ? &slot : nullptr;
}

bool PrefixTier::holds(const BlockName& name) const {
  const std::lock_guard guard(lock_);
  size_t index = 0;
  return find(name, index) != nullptr;
}

void PrefixTier::keep(const BlockName& name, const uint16_t* block) {
  size_t buffer = 0;
  {
    const std::lock_guard guard(lock_);
    if (refused_ || stopping_ || index_.contains(name.hash)) return;
    if (free_buffers_.empty()) {
      ++counts_.dropped;
      return;
    }
    buffer = free_buffers_.back();
    free_buffers_.pop_back();
  }
  std::memcpy(staged(buffer), block, contents_.block_bytes);
  const std::lock_guard guard(lock_);
  try {
    waiting_.push_back({name.hash, name.parent, {name.tokens.begin(), name.tokens.end()}, buffer});
  } catch (const std::bad_alloc&) {
    free_buffers_.push_back(buffer);
    ++counts_.dropped;
    return;
  }
  changed_.notify_all();
}

void PrefixTier::flush() {
  std::unique_lock guard(lock_);
  changed_.wait(guard, [&] { return waiting_.empty() && !writing_; });
}

bool PrefixTier::read(const BlockName& name, uint16_t* block) {
  size_t index = 0;
  uint64_t sum = 0;
  {
    const std::lock_guard guard(lock_);
    if (find(name, index) == nullptr) return false;
    Slot& slot = slots_[index];
    ++slot.readers;
    slot.used = true;
    sum = slot.sum;
  }
  const auto began = std::chrono::steady_clock::now();
  const bool whole = read_all(file_, block, contents_.block_bytes, data_at(index)) &&
                     checksum(bytes_of(block, contents_.block_bytes)) == sum;
  const double took =
      std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - began).count();
  const std::lock_guard guard(lock_);
  --slots_[index].readers;
  if (!whole) {
    ++counts_.damaged;
    if (slots_[index].readers == 0 && slots_[index].held) {
      forget(index);
      empty_.push_back(index);
    }
    return false;
  }
  ++counts_.read;
  read_ns_ = read_ns_ == 0 ? took : read_ns_ + kNewest * (took - read_ns_);
  return true;
}

bool PrefixTier::pays(double compute_ns) {
  const std::lock_guard guard(lock_);
  if (compute_ns == 0 || read_ns_ < compute_ns) return true;
  if (++declined_ < kRetry) return false;
  declined_ = 0;
  return true;
}

PrefixTierCounts PrefixTier::counts() const {
  const std::lock_guard guard(lock_);
  PrefixTierCounts counts = counts_;
  counts.slots = slots_.size();
  return counts;
}

// Under the lock.
void PrefixTier::forget(size_t index) {
  Slot& slot = slots_[index];
  if (!slot.held) return;
  const auto found = index_.find(slot.hash);
  if (found != index_.end() && found->second == index) index_.erase(found);
  slot.held = false;
  --counts_.held;
}

// Under the lock. An empty slot, or else one that was not asked for while the hand went round: a clock.
size_t PrefixTier::choose_slot() {
  if (!empty_.empty()) {
    const size_t index = empty_.back();
    empty_.pop_back();
    return index;
  }
  for (size_t passed = 0; passed < 2 * slots_.size(); ++passed) {
    const size_t index = hand_;
    hand_ = (hand_ + 1) % slots_.size();
    Slot& slot = slots_[index];
    if (slot.readers > 0 || slot.writing) continue;
    if (slot.held && slot.used) {
      slot.used = false;
      continue;
    }
    forget(index);
    return index;
  }
  return slots_.size();
}

// The entry goes first and comes back last: what is written halfway holds nothing.
bool PrefixTier::write_slot(size_t index, const uint8_t* block) {
  const Slot& slot = slots_[index];
  std::vector<uint8_t> entry(entry_bytes(contents_.block_tokens), 0);
  if (!write_all(file_, entry.data(), entry.size(), entry_at(index))) return false;
  if (!write_all(file_, block, contents_.block_bytes, data_at(index))) return false;
  Entry fixed{0, slot.sum, slot.hash, slot.parent};
  std::memcpy(entry.data(), &fixed, sizeof fixed);
  std::memcpy(entry.data() + sizeof fixed, slot.tokens.data(), entry.size() - sizeof fixed);
  fixed.sum = entry_sum(entry);
  std::memcpy(entry.data(), &fixed.sum, sizeof fixed.sum);
  return write_all(file_, entry.data(), entry.size(), entry_at(index));
}

void PrefixTier::write_loop() {
  std::unique_lock guard(lock_);
  for (;;) {
    changed_.wait(guard, [&] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    const size_t index = refused_ || index_.contains(next.hash) ? slots_.size() : choose_slot();
    if (index < slots_.size()) {
      Slot& slot = slots_[index];
      slot.writing = writing_ = true;
      slot.hash = next.hash;
      slot.parent = next.parent;
      slot.tokens = std::move(next.tokens);
      guard.unlock();
      slot.sum = checksum({staged(next.buffer), contents_.block_bytes});
      const bool written = write_slot(index, staged(next.buffer));
      guard.lock();
      slot.writing = writing_ = false;
      slot.used = false;
      if (written) {
        index_.emplace(slot.hash, index);
        slot.held = true;
        ++counts_.held;
        ++counts_.written;
      } else {
        refused_ = true;
        ++counts_.dropped;
      }
    } else if (refused_) {
      ++counts_.dropped;
    }
    free_buffers_.push_back(next.buffer);
    changed_.notify_all();
  }
}

}  // namespace streamserve
