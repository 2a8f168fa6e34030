#include "binding/sequence_calls.h"

#include <cmath>
#include <string>

#include "binding/environment.h"
#include "error.h"

namespace streamserve::binding {
namespace {

constexpr uint32_t kAny = ~uint32_t{0};
// Largest word of a salt: whole numbers up to it are exact in a double.
constexpr double kMostSalt = 4503599627370495.0;

// Places of the fields in the array of sampling numbers.
enum Field : size_t {
  kTemperature,
  kTopK,
  kTopP,
  kMinP,
  kRepetition,
  kPresence,
  kFrequency,
  kSeed,
  kMinTokens,
  kLogprobs,
  kFieldCount,
};

double whole(double value, double least, double most, const char* name) {
  if (value >= least && value <= most && value == std::floor(value)) return value;
  throw EngineError(ErrorCode::kArgumentInvalid, std::string("Sampling: ") + name +
                                                     " must be a whole number from " +
                                                     std::to_string(static_cast<int64_t>(least)) + " to " +
                                                     std::to_string(static_cast<int64_t>(most)) + ".");
}

SamplingParams read_sampling(const Call& call, size_t first) {
  const std::span<const double> fields = call.doubles(first, "sampling");
  const std::span<const uint32_t> stops = call.uint32s(first + 1, "stopIds");
  const std::span<const uint32_t> biased = call.uint32s(first + 2, "biasIds");
  const std::span<const float> biases = call.floats(first + 3, "biases");
  if (fields.size() != kFieldCount || biased.size() != biases.size()) {
    throw EngineError(ErrorCode::kArgumentInvalid, "The sampling arrays have the wrong lengths.");
  }
  SamplingParams params;
  params.temperature = static_cast<float>(fields[kTemperature]);
  params.top_k = static_cast<uint32_t>(whole(fields[kTopK], 0, kAny, "topK"));
  params.top_p = static_cast<float>(fields[kTopP]);
  params.min_p = static_cast<float>(fields[kMinP]);
  params.repetition_penalty = static_cast<float>(fields[kRepetition]);
  params.presence_penalty = static_cast<float>(fields[kPresence]);
  params.frequency_penalty = static_cast<float>(fields[kFrequency]);
  params.seed = static_cast<uint64_t>(whole(fields[kSeed], 0, 9007199254740991.0, "seed"));
  params.min_tokens = static_cast<uint32_t>(whole(fields[kMinTokens], 0, kAny, "minTokens"));
  params.logprobs = static_cast<int32_t>(whole(fields[kLogprobs], -1, kMostLogprobs, "logprobs"));
  params.stop_ids.assign(stops.begin(), stops.end());
  params.logit_bias.reserve(biased.size());
  for (size_t i = 0; i < biased.size(); ++i) params.logit_bias.emplace_back(biased[i], biases[i]);
  return params;
}

Lane& lane_of(const Call& call) { return Environment::of(call.env()).lane(call.integer(0, "lane", 0, kAny)); }

SequenceHandle handle_of(const Call& call) {
  return {call.integer(1, "sequence.index", 0, kAny), call.integer(2, "sequence.epoch", 0, kAny)};
}

// createSequence(lane, prompt, outputFrom, sampling, stopIds, biasIds, biases, out: Uint32Array(3), salt:
// Float64Array(2), unsure): index, epoch, cached tokens
napi_value create_sequence(Call& call) {
  Lane& lane = lane_of(call);
  const std::span<const uint32_t> shared = call.uint32s(1, "prompt");
  const uint32_t output_from = call.integer(2, "outputFrom", 0, kAny);
  SamplingParams params = read_sampling(call, 3);
  const std::span<uint32_t> out = call.uint32s(7, "out");
  if (out.size() < 3)
    throw EngineError(ErrorCode::kArgumentInvalid, "createSequence needs room for its result.");
  const std::span<const double> words = call.doubles(8, "salt");
  if (words.size() != 2) throw EngineError(ErrorCode::kArgumentInvalid, "A salt has two words.");
  const auto word = [&](size_t i) { return static_cast<uint64_t>(whole(words[i], 0, kMostSalt, "salt")); };
  const ChainHash salt{word(0), word(1)};
  const uint32_t unsure = call.integer(9, "unsure", 0, kAny);
  // A copy: other threads may write to shared memory between the checks and the use.
  const std::vector<uint32_t> prompt(shared.begin(), shared.end());
  uint32_t cached = 0;
  const SequenceHandle handle = lane.create(prompt, output_from, std::move(params), cached, salt, unsure);
  out[0] = handle.index;
  out[1] = handle.epoch;
  out[2] = cached;
  return make_undefined(call.env());
}

// release(lane, index, epoch)
napi_value release(Call& call) {
  lane_of(call).release(handle_of(call));
  return make_undefined(call.env());
}

// handOver(lane, index, epoch, toLane)
napi_value hand_over(Call& call) {
  lane_of(call).hand_over(handle_of(call), call.integer(3, "toLane", 0, kNoLane - 1));
  return make_undefined(call.env());
}

// adopt(lane, index, epoch)
napi_value adopt(Call& call) {
  lane_of(call).adopt(handle_of(call));
  return make_undefined(call.env());
}

// releaseStranded(lane)
napi_value release_stranded(Call& call) {
  lane_of(call).release_stranded();
  return make_undefined(call.env());
}

// cut(lane, index, epoch, tokens)
napi_value cut(Call& call) {
  lane_of(call).cut(handle_of(call), call.integer(3, "tokens", 0, kAny));
  return make_undefined(call.env());
}

// length(lane, index, epoch) -> tokens in the KV
napi_value length(Call& call) { return make_number(call.env(), lane_of(call).length(handle_of(call))); }

}  // namespace

void export_sequence_calls(napi_env env, napi_value exports) {
  export_function(env, exports, "createSequence", entry<create_sequence>);
  export_function(env, exports, "release", entry<release>);
  export_function(env, exports, "handOver", entry<hand_over>);
  export_function(env, exports, "adopt", entry<adopt>);
  export_function(env, exports, "releaseStranded", entry<release_stranded>);
  export_function(env, exports, "cut", entry<cut>);
  export_function(env, exports, "length", entry<length>);
}

}  // namespace streamserve::binding
