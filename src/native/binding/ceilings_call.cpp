#include "binding/ceilings_call.h"

#include "error.h"
#include "kernels/ceilings.h"
#include "kernels/kernels.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kMostThreads = 1024;
// Far above any cache, far below what a machine that serves models has.
constexpr double kMostReadBytes = 16.0 * 1024 * 1024 * 1024;

}  // namespace

napi_value measure_ceilings(Call& call) {
  const std::string name = call.text(0, "instructionSet");
  const Kernels* kernels = choose_kernels(name.c_str());
  if (kernels == nullptr) {
    throw EngineError(ErrorCode::kArgumentInvalid, "This processor has no kernels called \"" + name + "\".");
  }
  const uint32_t threads = call.integer(1, "threads", 1, kMostThreads);
  const double read_bytes = call.number(2, "readBytes");
  if (!(read_bytes >= 0 && read_bytes <= kMostReadBytes)) {
    throw EngineError(ErrorCode::kArgumentInvalid, "readBytes is out of range.");
  }
  const std::span<double> out = call.doubles(3, "out");
  if (out.size() < 3) throw EngineError(ErrorCode::kArgumentInvalid, "out needs room for three numbers.");
  const Ceilings ceilings = streamserve::measure_ceilings(*kernels, threads, static_cast<size_t>(read_bytes));
  out[0] = ceilings.integer_macs;
  out[1] = ceilings.float_macs;
  out[2] = ceilings.read_bytes;
  return make_undefined(call.env());
}

}  // namespace streamserve::binding
