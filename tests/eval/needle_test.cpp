#include "eval/needle.h"

#include <ATen/ATen.h>

#include <cmath>
#include <set>

#include "core/random.h"
#include "linearize/plan.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/tiny_rows.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// A token a byte, and BOS = 1.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const int32_t> ids) const override {
    return {ids.begin(), ids.end()};
  }
  int64_t vocab_size() const override { return 256; }
  std::optional<int32_t> bos_id() const override { return 1; }
  std::optional<int32_t> eos_id() const override { return std::nullopt; }
  std::string fingerprint() const override { return "bytes"; }
  std::vector<std::filesystem::path> files() const override { return {}; }
};

std::string text_of(const NeedlePrompt& prompt) {
  return {prompt.tokens.begin() + 1, prompt.tokens.end()};
}

const std::string kSentence = "The pass key is 12345. Remember it: 12345 is the pass key.";
const std::string kAnswered = "What is the pass key? The pass key is 12345";

}  // namespace

TEST_CASE("a needle prompt has its key where it is asked to be", "[needle]") {
  const ByteTokenizer tokenizer;
  const std::vector<int64_t> prose(300, 'x');
  for (const double depth : {0.0, 0.5, 1.0}) {
    const NeedlePrompt prompt = make_needle_prompt(tokenizer, prose, 200, depth, 12345);
    CHECK(prompt.tokens.size() == 200);
    CHECK(prompt.tokens.front() == 1);
    CHECK(prompt.key_tokens == 6);  // " 12345"
    const std::string text = text_of(prompt);
    const size_t room = 199 - kSentence.size() - kAnswered.size();
    const size_t before = static_cast<size_t>(std::llround(depth * double(room)));
    CHECK(text ==
          std::string(before, 'x') + kSentence + std::string(room - before, 'x') + kAnswered);
  }
  check_refused<UsageError>([&] { make_needle_prompt(tokenizer, prose, 60, 0, 12345); },
                            "found 60");
}

TEST_CASE("the needle test counts what a model would say", "[needle]") {
  const TemporaryFolder folder;
  const RowSet prose = tiny_rows(folder.path(), {.seq_len = 256, .order = "file", .max_rows = 2});
  ModelConfig config = tiny_text_config();
  config.vocab_size = std::max<int64_t>(config.vocab_size, 512);
  const Model model = random_model(config);
  const NeedleOptions options{.lengths = {180, 256}, .depths = {0, 1}, .trials = 3};
  const auto cells = needle_test(model, make_teacher_stack(config), false, ByteTokenizer(), prose,
                                 options, "test");
  REQUIRE(cells.size() == 4);
  for (const NeedleCell& cell : cells) {
    CHECK(cell.trials == 3);
    CHECK(cell.found == 0);  // by chance: 512 ids to the power of 6
    // Random weights say nothing about the next token.
    CHECK(cell.nats_per_token == Approx(std::log(512)).margin(1.5));
  }
  CHECK(cells[1].depth == 1);
  CHECK(cells[2].length == 256);
  check_refused<UsageError>(
      [&] {
        needle_test(model, make_teacher_stack(config), false, ByteTokenizer(), prose,
                    {.lengths = {300}}, "test");
      },
      "at least 300 tokens of prose, found 256");
}

TEST_CASE("a model that says the key finds it", "[needle]") {
  uint64_t seed = 0;
  const auto key_of = [](uint64_t of) {
    return std::to_string(10000 + Random(derive_seed(of, "needle 0")).below(90000));
  };
  const auto digits = [](const std::string& key) { return std::set<char>(key.begin(), key.end()); };
  while (digits(key_of(seed)).size() < 5) ++seed;  // one digit tells the next
  const std::string key = key_of(seed);
  // Layers that add nothing, one-hot embeddings, and a head that says what follows each byte.
  ModelConfig config = tiny_text_config();
  config.vocab_size = config.hidden_size = 512;  // no less than the prose has
  config.tie_word_embeddings = false;
  Model model = random_model(config);
  const at::NoGradGuard no_grad;
  visit_parameters(model.weights, [](const std::string& name, at::Tensor& parameter) {
    if (name.find("layers") != std::string::npos) parameter.zero_();
  });
  model.weights.embed_tokens.copy_(at::eye(512));
  model.weights.lm_head.zero_();
  const std::string said = "s " + key;  // "... The pass key is", and on
  for (size_t i = 1; i < said.size(); ++i) {
    model.weights.lm_head.index_put_({int64_t{said[i]}, int64_t{said[i - 1]}}, 1.0);
  }
  const TemporaryFolder folder;
  const RowSet prose = tiny_rows(folder.path(), {.seq_len = 256, .order = "file", .max_rows = 1});
  const auto cells =
      needle_test(model, make_teacher_stack(config), false, ByteTokenizer(), prose,
                  {.lengths = {200}, .depths = {0.5}, .trials = 1, .seed = seed}, "test");
  CHECK(cells[0].found == 1);
  CHECK(cells[0].nats_per_token < std::log(512));
}

TEST_CASE("needle results as a table, JSON and a page", "[needle]") {
  const std::vector<NeedleResult> results = {
      {"teacher",
       {{256, 0, 4, 4, 0.01}, {256, 1, 4, 2, 0.5}, {512, 0, 4, 1, 1.5}, {512, 1, 4, 0, 3}}},
      {"student",
       {{256, 0, 4, 0, 9}, {256, 1, 4, 3, 0.2}, {512, 0, 4, 0, 9}, {512, 1, 4, 4, 0.1}}}};
  const std::string text = needle_to_text(results);
  for (const char* part : {"teacher, keys found", "student, keys found", "256", "512",
                           "depth 100 %", "100 %", "50 %", "75 %", "0.26"}) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
  const Json json = needle_to_json(results);
  CHECK(json.at("teacher").size() == 4);
  CHECK(json.at("student")[3].at("found") == 4);
  const std::string page = needle_to_html(results);
  CHECK(page.find("<h2>student</h2>") != std::string::npos);
  CHECK(page.find("75 %<small>0.20</small>") != std::string::npos);
}
