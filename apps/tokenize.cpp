// tigon tokenize: text to token ids and back.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "io/json_file.h"

namespace tigon {
namespace {

struct TokenizeOptions {
  std::string tokenizer;
  bool decode = false, json = false;
};

int32_t checked_id(int64_t id) {
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    fail("stdin: expected token ids from 0, found {}", id);
  }
  return static_cast<int32_t>(id);
}

/// `{"ids": […]}` or `[…]`.
std::vector<int32_t> ids_of_json(const std::string& text) {
  const Json json = parse_json(text, "stdin");
  const Json* list = &json;
  if (json.is_object()) {
    const auto found = json.find("ids");
    if (found == json.end()) fail("stdin: expected the key \"ids\", found an object without it");
    list = &*found;
  }
  if (!list->is_array()) fail("stdin: expected a list of token ids, found {}", list->type_name());
  std::vector<int32_t> ids;
  for (const Json& id : *list) {
    if (!id.is_number_integer()) fail("stdin: expected a token id, found {}", id.dump());
    ids.push_back(checked_id(id.get<int64_t>()));
  }
  return ids;
}

/// Decimal numbers between white space.
std::vector<int32_t> ids_of_words(const std::string& text) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<int32_t> ids;
  std::string_view rest = text;
  while (true) {
    rest.remove_prefix(std::min(rest.find_first_not_of(kSpace), rest.size()));
    if (rest.empty()) return ids;
    const std::string_view word = rest.substr(0, rest.find_first_of(kSpace));
    int64_t id = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (code != std::errc() || end != word.data() + word.size()) {
      fail("stdin: expected a token id, found \"{}\"", word.substr(0, 100));
    }
    ids.push_back(checked_id(id));
    rest.remove_prefix(word.size());
  }
}

std::vector<int32_t> parse_ids(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string::npos && (text[first] == '{' || text[first] == '[');
  return is_json ? ids_of_json(text) : ids_of_words(text);
}

void tokenize(const TokenizeOptions& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
  if (std::cin.bad()) fail("cannot read stdin");
  if (options.decode) {
    const std::string text = tokenizer->decode(parse_ids(input));
    // The text alone, so that it comes back byte for byte.
    options.json ? print_json({{"text", text}}) : print_text(text);
  } else {
    const std::vector<int32_t> ids = tokenizer->encode(input);
    options.json ? print_json({{"ids", ids}})
                 : print_text(fmt::format("{}\n", fmt::join(ids, " ")));
  }
}

}  // namespace

void add_tokenize(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Text on stdin, all of it one text, to token ids without BOS and EOS, or back");
  const auto options = std::make_shared<TokenizeOptions>();
  command
      ->add_option("--tokenizer", options->tokenizer, "A tokenizer.model, or a folder that has one")
      ->required();
  command->add_flag("--decode", options->decode,
                    "Read ids (JSON, or separated by white space) and print their text");
  command->add_flag("--json", options->json, R"(Print {"ids":[…]}, or {"text":"…"})");
  command->callback([options] { tokenize(*options); });
}

}  // namespace tigon
