#include "gguf/formats.h"

#include <string>

#include "source/model_source.h"

namespace streamserve {
namespace {

constexpr FormatInfo kFormats[] = {
    {0, "F32", 1, 4},        {1, "F16", 1, 2},       {2, "Q4_0", 32, 18},     {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},     {7, "Q5_1", 32, 24},    {8, "Q8_0", 32, 34},     {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},   {11, "Q3_K", 256, 110}, {12, "Q4_K", 256, 144},  {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},  {15, "Q8_K", 256, 292}, {16, "IQ2_XXS", 256, 0}, {17, "IQ2_XS", 256, 0},
    {18, "IQ3_XXS", 256, 0}, {19, "IQ1_S", 256, 0},  {20, "IQ4_NL", 32, 18},  {21, "IQ3_S", 256, 0},
    {22, "IQ2_S", 256, 0},   {23, "IQ4_XS", 256, 0}, {24, "I8", 1, 1},        {25, "I16", 1, 2},
    {26, "I32", 1, 4},       {27, "I64", 1, 8},      {28, "F64", 1, 8},       {29, "IQ1_M", 256, 0},
    {30, "BF16", 1, 2},      {34, "TQ1_0", 256, 0},  {35, "TQ2_0", 256, 0},   {39, "MXFP4", 32, 0},
};

}  // namespace

const FormatInfo* find_format(uint32_t number) {
  for (const FormatInfo& format : kFormats) {
    if (format.number == number) return &format;
  }
  return nullptr;
}

std::string format_name(uint32_t format) {
  const FormatInfo* found = find_format(format);
  return found ? found->name : "type " + std::to_string(format);
}

}  // namespace streamserve
