// A test is a named function; the program runs all of them, or those whose name contains its argument.
#pragma once

#include <cmath>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace streamserve::test {

struct UnitTest {
  const char* name;
  void (*body)();
};

inline std::vector<UnitTest>& unit_tests() {
  static std::vector<UnitTest> tests;
  return tests;
}

struct Registration {
  Registration(const char* name, void (*body)()) { unit_tests().push_back({name, body}); }
};

struct CheckFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::ostringstream text;
  text << file << ":" << line << ": " << what;
  throw CheckFailure(text.str());
}

template <typename A, typename B>
void check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  std::ostringstream what;
  what << text << ": " << a << " is not " << b;
  fail(file, line, what.str());
}

inline void check_near(double a, double b, double tolerance, const char* text, const char* file, int line) {
  if (std::abs(a - b) <= tolerance) return;
  std::ostringstream what;
  what << text << ": " << a << " is not within " << tolerance << " of " << b;
  fail(file, line, what.str());
}

}  // namespace streamserve::test

#define UNIT_TEST(name)                                                               \
  static void name();                                                                 \
  static const ::streamserve::test::Registration registration_of_##name(#name, name); \
  static void name()
#define CHECK(condition)                                                                     \
  do {                                                                                       \
    if (!(condition)) ::streamserve::test::fail(__FILE__, __LINE__, #condition " is false"); \
  } while (false)
#define CHECK_EQUAL(a, b) ::streamserve::test::check_equal((a), (b), #a, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) \
  ::streamserve::test::check_near((a), (b), (tolerance), #a, __FILE__, __LINE__)
