#include <cstring>

#include "kernels/kernels.h"
#include "unit_test.h"

int main(int count, char** arguments) {
  const char* wanted = count > 1 ? arguments[1] : "";
  int passed = 0, failed = 0;
  std::printf("native: kernels of this processor:");
  for (const auto* family : streamserve::kernel_families()) {
    if (family->supported()) std::printf(" %s", family->name);
  }
  std::printf("\n");
  for (const auto& test : streamserve::test::unit_tests()) {
    if (std::strstr(test.name, wanted) == nullptr) continue;
    try {
      test.body();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAIL %s\n  %s\n", test.name, error.what());
    }
  }
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
