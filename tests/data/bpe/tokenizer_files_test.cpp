// vocab.json + merges.txt, Llama 3's tiktoken file, and which file of a folder is read.
#include <string>

#include "core/error.h"
#include "data/tokenizer.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/shared_material.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"
#include "tiny_tokenizer_json.h"

using namespace tigon::testing;
using tigon::Json;
using tigon::load_tokenizer;
using Ids = std::vector<int32_t>;

namespace {

void write_vocabulary_and_merges(const TemporaryFolder& folder) {
  Json vocabulary = tiny_tokenizer_json()["model"]["vocab"];
  vocabulary["<|endoftext|>"] = 259;
  folder.write("vocab.json", vocabulary.dump());
  folder.write("merges.txt", "#version: 0.2\r\nĠ t\r\nĠt h\r\nl l\r\n");
}

void check_folder_refused(const TemporaryFolder& folder, const std::string& message) {
  check_refused<tigon::Error>([&] { load_tokenizer(folder.path()); }, message);
}

}  // namespace

TEST_CASE("vocab.json and merges.txt with CRLF are read") {
  const TemporaryFolder folder;
  write_vocabulary_and_merges(folder);
  const auto tokenizer = load_tokenizer(folder.path());
  CHECK(tokenizer->encode(" the ll<|endoftext|>") == Ids{257, 'e', ' ', 258, 259});
  CHECK(tokenizer->bos_id() == 259);
  CHECK(tokenizer->eos_id() == 259);
  CHECK_FALSE(tokenizer->adds_bos());
  CHECK(tokenizer->files() == std::vector{folder / "vocab.json", folder / "merges.txt"});
  CHECK(load_tokenizer(folder / "merges.txt")->fingerprint() == tokenizer->fingerprint());
  // Qwen normalizes, which GPT-2 does not.
  folder.write("config.json", R"({"model_type": "qwen3"})");
  const auto qwen = load_tokenizer(folder.path());
  CHECK(qwen->encode("e\u0301") == qwen->encode("é"));
  CHECK(tokenizer->encode("e\u0301") != tokenizer->encode("é"));
  CHECK(qwen->fingerprint() != tokenizer->fingerprint());
  CHECK_FALSE(qwen->bos_id().has_value());
}

TEST_CASE("broken vocab.json and merges.txt are refused") {
  const TemporaryFolder folder;
  write_vocabulary_and_merges(folder);
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizer"})");
  check_folder_refused(folder, "expected the tokenizer of GPT-2 or Qwen, found CLIPTokenizer");
  folder.write("tokenizer_config.json", R"({"bos_token": "<nowhere>"})");
  check_folder_refused(folder, "\"<nowhere>\", named as BOS or EOS, is not in the vocabulary");
  folder.write("tokenizer_config.json", "{}");
  folder.write("merges.txt", "Ġ t h\n");
  check_folder_refused(folder, "merges.txt: merge 1: expected two pieces");
  folder.write("merges.txt", "Ġ q\n");
  check_folder_refused(folder, "\"Ġq\" is not in the vocabulary");
  folder.write("vocab.json", "[1]");
  check_folder_refused(folder, "vocab.json: expected an object of pieces and ids");
  folder.write("vocab.json", "{}");
  check_folder_refused(folder, "vocab.json: expected an object of pieces and ids");
  std::filesystem::remove(folder / "merges.txt");
  check_folder_refused(folder, "merges.txt");
}

TEST_CASE("tiktoken files of other tokenizers are refused") {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", "IQ== 0\nIg== 1\nIw== 2\n");
  check_folder_refused(folder, "tokenizer.model: expected 128000 tokens (Llama 3");
  folder.write("tokenizer.model", "IQ== 0\nIQ== 1\n");
  check_folder_refused(folder, "line 2: expected tokens and ranks once");
  folder.write("tokenizer.model", "IQ== 0\nIg== 0\n");
  check_folder_refused(folder, "line 2: expected tokens and ranks once");
  folder.write("tokenizer.model", "IQ== 0\nI*== 1\n");
  check_folder_refused(folder, "line 2: expected base64 and a rank, found \"I*==");
  folder.write("tokenizer.model", "IQ== 0\nIg== 128000\n");
  check_folder_refused(folder, "line 2: expected ranks from 0 to 127999 (Llama 3), found 128000");
  folder.write("tokenizer_config.json", R"({"auto_map": {"AutoTokenizer": ["a.B", null]}})");
  check_folder_refused(folder, "found one read by the folder's own Python code");
}

TEST_CASE("Llama 3's tokenizer") {
  TIGON_SHARED_OR_SKIP(folder, "tokenizers/llama3");
  const auto tokenizer = load_tokenizer(folder);
  CHECK(tokenizer->encode("Hello world!") == Ids{9906, 1917, 0});
  CHECK(tokenizer->decode(tokenizer->encode(" 😀漢字")) == " 😀漢字");
  CHECK(tokenizer->bos_id() == 128000);
  CHECK(tokenizer->eos_id() == 128001);
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->vocab_size() == 128256);
  CHECK(tokenizer->special_tokens().size() == 256);
  CHECK(tokenizer->special_tokens()[4].content == "<|finetune_right_pad_id|>");
  CHECK(tokenizer->decode(Ids{128000, 9906}) == "Hello");
  CHECK(tokenizer->encode("<|begin_of_text|>").size() > 1);
  const auto alone = load_tokenizer(folder / "tokenizer.model");
  CHECK(alone->special_tokens()[4].content == "<|reserved_special_token_2|>");
  CHECK(alone->special_tokens()[255].content == "<|reserved_special_token_250|>");
}

TEST_CASE(
    "a folder's tokenizer.model comes before its tokenizer.json, and that before vocab.json") {
  const TemporaryFolder folder;
  check_folder_refused(folder, "expected a tokenizer (tokenizer.model, tokenizer.json, or vocab");
  write_vocabulary_and_merges(folder);
  CHECK(load_tokenizer(folder.path())->fingerprint().starts_with("vocabulary-merges-"));
  folder.write("tokenizer.json", tiny_tokenizer_json().dump());
  CHECK(load_tokenizer(folder.path())->fingerprint().starts_with("tokenizer-json-"));
  folder.write("tokenizer.model", train_tiny_tokenizer());
  CHECK(load_tokenizer(folder.path())->fingerprint().starts_with("sentencepiece-"));
}
