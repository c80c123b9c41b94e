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
#include "data/utf8.h"
#include "io/json_file.h"

namespace tigon {
namespace {

struct TokenizeOptions {
  std::string tokenizer;
  bool decode = false, json = false, jsonl = false;
};

int32_t checked_id(int64_t id, const std::string& source = "stdin") {
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    fail("{}: expected token ids from 0, found {}", source, id);
  }
  return static_cast<int32_t>(id);
}

/// `{"ids": […]}` or `[…]`.
std::vector<int32_t> ids_of_json(const std::string& text, const std::string& source = "stdin") {
  const Json json = parse_json(text, source);
  const Json* list = &json;
  if (json.is_object()) {
    const auto found = json.find("ids");
    if (found == json.end()) {
      fail("{}: expected the key \"ids\", found an object without it", source);
    }
    list = &*found;
  }
  if (!list->is_array()) {
    fail("{}: expected a list of token ids, found {}", source, list->type_name());
  }
  std::vector<int32_t> ids;
  for (const Json& id : *list) {
    if (!id.is_number_integer()) fail("{}: expected a token id, found {}", source, id.dump());
    ids.push_back(checked_id(id.get<int64_t>(), source));
  }
  return ids;
}

/// `{"text": "…"}` or `"…"`.
std::string text_of_json(const std::string& line, const std::string& source) {
  const Json json = parse_json(line, source);
  const Json* text = &json;
  if (json.is_object()) {
    const auto found = json.find("text");
    if (found == json.end()) {
      fail("{}: expected the key \"text\", found an object without it", source);
    }
    text = &*found;
  }
  if (!text->is_string()) fail("{}: expected a text, found {}", source, text->type_name());
  return text->get<std::string>();
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

/// A JSON value a line in, a JSON object a line out.
void tokenize_lines(const Tokenizer& tokenizer, bool decode) {
  // Results go out in blocks, so that a long input takes neither memory nor a write a line.
  constexpr size_t kBlockBytes = size_t{1} << 16;
  std::string line, output;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string source = fmt::format("stdin line {}", number);
    // Invalid UTF-8 would be no JSON; everywhere else it becomes U+FFFD.
    line = replace_invalid_utf8(line);
    const Json result = decode ? Json({{"text", tokenizer.decode(ids_of_json(line, source))}})
                               : Json({{"ids", tokenizer.encode(text_of_json(line, source))}});
    output += result.dump() + "\n";
    if (output.size() < kBlockBytes) continue;
    print_text(output);
    output.clear();
  }
  if (std::cin.bad()) fail("cannot read stdin");
  print_text(output);
}

void tokenize(const TokenizeOptions& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  if (options.jsonl) return tokenize_lines(*tokenizer, options.decode);
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
      ->add_option("--tokenizer", options->tokenizer,
                   "A tokenizer file (tokenizer.model, tokenizer.json, vocab.json), or a folder "
                   "that has one")
      ->required();
  command->add_flag("--decode", options->decode,
                    "Read ids (JSON, or separated by white space) and print their text");
  auto* const json =
      command->add_flag("--json", options->json, R"(Print {"ids":[…]}, or {"text":"…"})");
  command
      ->add_flag("--jsonl", options->jsonl,
                 R"(Many texts: a line in, "…" or {"text":"…"}, gives a line out, {"ids":[…]}; )"
                 "with --decode the other way round")
      ->excludes(json);
  command->callback([options] { tokenize(*options); });
}

}  // namespace tigon
