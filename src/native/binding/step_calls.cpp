#include "binding/step_calls.h"

#include <algorithm>
#include <limits>
#include <string>

#include "binding/environment.h"
#include "error.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kAny = ~uint32_t{0};
// Numbers a row in the packed batch (index, epoch, tokens, drafts, sample), and in the packed result (tokens
// drawn, accepted, stopped, logprobs).
constexpr size_t kRowFields = 5;
constexpr size_t kOutcomeFields = 4;
// Times at the head of the packed result's floats: computing, waiting, sharing cores.
constexpr size_t kTimes = 3;

Lane& lane_of(const Call& call) { return Environment::of(call.env()).lane(call.integer(0, "lane", 0, kAny)); }

[[noreturn]] void malformed() {
  throw EngineError(ErrorCode::kArgumentInvalid, "The packed batch is malformed.");
}

// submit(lane, batch: Int32Array): row count, the rows' fields, then all rows' tokens
napi_value submit(Call& call) {
  Environment& environment = Environment::of(call.env());
  Lane& lane = lane_of(call);
  const std::span<const int32_t> shared = call.int32s(1, "batch");
  std::vector<int32_t>& packed = environment.packed;
  packed.assign(shared.begin(), shared.end());
  const auto at = [&](size_t i) { return static_cast<uint32_t>(packed[i]); };
  if (packed.empty()) malformed();
  const size_t rows = at(0);
  if (rows > (packed.size() - 1) / kRowFields) malformed();
  size_t token = 1 + rows * kRowFields;
  environment.rows.clear();
  for (size_t r = 0; r < rows; ++r) {
    const size_t fields = 1 + r * kRowFields;
    const size_t tokens = at(fields + 2);
    if (tokens > packed.size() - token) malformed();
    environment.rows.push_back({{at(fields), at(fields + 1)},
                                {reinterpret_cast<const uint32_t*>(packed.data()) + token, tokens},
                                at(fields + 3),
                                packed[fields + 4] != 0});
    token += tokens;
  }
  lane.submit(environment.rows);
  return make_undefined(call.env());
}

// finished(lane) -> whether collect() would return at once
napi_value finished(Call& call) { return make_flag(call.env(), lane_of(call).finished()); }

class Writer {
 public:
  Writer(std::span<int32_t> integers, std::span<float> floats) : integers_(integers), floats_(floats) {}
  void integer(int64_t value) { integers_[next_integer_++] = static_cast<int32_t>(value); }
  void real(double value) { floats_[next_float_++] = static_cast<float>(value); }

 private:
  std::span<int32_t> integers_;
  std::span<float> floats_;
  size_t next_integer_ = 0;
  size_t next_float_ = 0;
};

void write_row(const RowOutcome& row, Writer& writer) {
  const size_t top = row.logprobs > 0 ? static_cast<size_t>(row.logprobs) : 0;
  for (const Draw& draw : row.draws) writer.integer(draw.token);
  if (row.logprobs >= 0) {
    for (const Draw& draw : row.draws) writer.real(draw.logprob);
  }
  for (const Draw& draw : row.draws) {
    for (size_t i = 0; i < top; ++i) {
      // A vocabulary smaller than `top` leaves places empty.
      const bool there = i < draw.top.size();
      writer.integer(there ? int64_t{draw.top[i].token} : -1);
      writer.real(there ? draw.top[i].logit : -std::numeric_limits<float>::infinity());
    }
  }
}

// collect(lane, integers: Int32Array, floats: Float32Array). Integers: the rows' fields, then each row's
// tokens and top ids; floats: compute, wait and shared milliseconds, then each row's log-probabilities and
// top log-probabilities.
napi_value collect(Call& call) {
  Lane& lane = lane_of(call);
  const std::span<int32_t> integers = call.int32s(1, "integers");
  const std::span<float> floats = call.floats(2, "floats");
  const size_t rows = lane.options().max_rows;
  const size_t tokens = lane.options().max_batch_tokens;
  if (integers.size() < rows * kOutcomeFields + tokens * (1 + kMostLogprobs) ||
      floats.size() < kTimes + tokens * (1 + kMostLogprobs)) {
    throw EngineError(ErrorCode::kArgumentInvalid, "collect() needs larger arrays.");
  }
  const StepOutcome outcome = lane.collect();
  Writer writer(integers, floats);
  writer.real(outcome.compute_ms);
  writer.real(outcome.wait_ms);
  writer.real(outcome.shared_ms);
  for (const RowOutcome& row : outcome.rows) {
    writer.integer(static_cast<int64_t>(row.draws.size()));
    writer.integer(row.accepted);
    writer.integer(!row.draws.empty() && row.draws.back().stopped);
    writer.integer(row.logprobs);
  }
  for (const RowOutcome& row : outcome.rows) write_row(row, writer);
  return make_undefined(call.env());
}

// profile(lane) -> the operations of the last step collected, each with its name, the regions it ran in,
// milliseconds, and its work
napi_value profile(Call& call) {
  const StepProfile profile = lane_of(call).profile();
  const napi_env env = call.env();
  napi_value list = make_array(env, 0);
  uint32_t length = 0;
  for (size_t i = 0; i < profile.size(); ++i) {
    const auto& [regions, ns, work] = profile[i];
    if (regions == 0) continue;
    napi_value one = make_object(env);
    const auto number = [&](const char* name, auto value) {
      set(env, one, name, make_number(env, static_cast<double>(value)));
    };
    set(env, one, "operation", make_text(env, operation_name(static_cast<Operation>(i))));
    number("regions", regions);
    number("ms", static_cast<double>(ns) * 1e-6);
    number("weightBytes", work.weight_bytes);
    number("kvBytes", work.kv_bytes);
    number("activationBytes", work.activation_bytes);
    number("int8Macs", work.integer_macs);
    number("f32Macs", work.float_macs);
    set(env, list, length++, one);
  }
  return list;
}

// score(lane, ids: Uint32Array, from, out: Float32Array)
napi_value score(Call& call) {
  const std::span<const uint32_t> shared = call.uint32s(1, "ids");
  const std::vector<uint32_t> ids(shared.begin(), shared.end());
  lane_of(call).score(ids, call.integer(2, "from", 0, kAny), call.floats(3, "out"));
  return make_undefined(call.env());
}

}  // namespace

void export_step_calls(napi_env env, napi_value exports) {
  export_function(env, exports, "submit", entry<submit>);
  export_function(env, exports, "finished", entry<finished>);
  export_function(env, exports, "collect", entry<collect>);
  export_function(env, exports, "profile", entry<profile>);
  export_function(env, exports, "score", entry<score>);
}

}  // namespace streamserve::binding
