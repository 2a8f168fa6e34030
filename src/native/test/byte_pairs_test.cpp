#include "text/byte_pairs.h"

#include <string>
#include <vector>

#include "error.h"
#include "unit_test.h"

namespace streamserve {
namespace {

struct List {
  explicit List(const std::vector<std::string>& strings) {
    for (const std::string& string : strings) {
      text += string;
      ends.push_back(static_cast<uint32_t>(text.size()));
    }
  }
  operator StringList() const { return {text, ends}; }

  std::string text;
  std::vector<uint32_t> ends;
};

std::vector<uint32_t> encode(BytePairs& pairs, const std::string& word, bool whole = false) {
  std::vector<uint32_t> ids(word.size());
  ids.resize(pairs.encode(word, whole, ids));
  return ids;
}

const List kNothing({});

UNIT_TEST(byte_pairs_join_the_lowest_rank_first_and_the_leftmost_of_equals) {
  const List tokens({"a", "b", "c", "ab", "bc", "aa", "abc"});
  BytePairs pairs(tokens, List({"b c", "a b", "a a", "ab c"}), kNothing);
  CHECK((encode(pairs, "abc") == std::vector<uint32_t>{0, 4}));
  CHECK((encode(pairs, "aaa") == std::vector<uint32_t>{5, 0}));
  CHECK((encode(pairs, "aab") == std::vector<uint32_t>{0, 3}));
  CHECK((encode(pairs, "abc", true) == std::vector<uint32_t>{6}));
}

UNIT_TEST(byte_pairs_read_characters_that_stand_for_bytes) {
  // U+0120 stands for a space, U+0100 for byte 0; U+00AD and U+0144 for none.
  const List tokens({"\u0120", "\u0100", "x", "\u0120x", "\u00ad", "\u0144", "", "\xff"});
  BytePairs pairs(tokens, List({"\u0120 x", "\u00ad x", "x \xff"}), kNothing);
  CHECK((encode(pairs, " x") == std::vector<uint32_t>{3}));
  CHECK((encode(pairs, std::string("\0x", 2)) == std::vector<uint32_t>{1, 2}));
  CHECK((encode(pairs, "\xad") == std::vector<uint32_t>{}));
}

UNIT_TEST(byte_pairs_spell_what_merges_make_and_no_token_is) {
  const List tokens({"a", "b", "<a>", "<", ">", "<a"});
  BytePairs pairs(tokens, List({"a b", "< a", "<a >", "ab ab"}), List({"<a>"}));
  CHECK((encode(pairs, "ab") == std::vector<uint32_t>{0, 1}));
  CHECK((encode(pairs, "abab") == std::vector<uint32_t>{0, 1, 0, 1}));
  CHECK((encode(pairs, "<a>", true) == std::vector<uint32_t>{3, 0, 4}));
}

UNIT_TEST(byte_pairs_take_long_words_and_many_merges_without_tokens) {
  std::vector<std::string> merges;
  for (std::string left = "a"; left.size() < 2000; left += "a") merges.push_back(left + " a");
  const List tokens({"a", "aa"});
  BytePairs pairs(tokens, List(merges), kNothing);
  CHECK_EQUAL(encode(pairs, std::string(1999, 'a')).size(), size_t{1001});
}

UNIT_TEST(byte_pairs_refuse_a_merge_that_is_no_pair) {
  std::string code;
  try {
    const BytePairs pairs(List({"a"}), List({"a a", "aa"}), kNothing);
  } catch (const EngineError& error) {
    code = code_name(error.code());
  }
  CHECK_EQUAL(code, std::string("model_file_invalid"));
}

UNIT_TEST(string_lists_that_end_nowhere_are_not_sound) {
  const std::vector<uint32_t> beyond{1, 4};
  const std::vector<uint32_t> backwards{2, 1};
  CHECK(!(StringList{"abc", beyond}.sound()));
  CHECK(!(StringList{"abc", backwards}.sound()));
  CHECK((StringList{"", {}}.sound()));
}

}  // namespace
}  // namespace streamserve
