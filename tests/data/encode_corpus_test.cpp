#include "data/encode_corpus.h"

#include "core/error.h"
#include "core/random.h"
#include "data/byte_tokenizer.h"
#include "data/corpus_files.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_tokenizer.h"

using namespace tigon::testing;
using tigon::encode_corpus;
using tigon::EncodedDocument;

namespace {

std::vector<std::vector<int32_t>> encode(const std::filesystem::path& file,
                                         const tigon::Tokenizer& tokenizer, int num_threads) {
  std::vector<std::vector<int32_t>> result;
  encode_corpus({file}, tokenizer, num_threads,
                [&](EncodedDocument&& document) { result.push_back(document.ids); });
  return result;
}

/// Many small documents and a few that are larger than what a thread takes at once.
std::vector<std::string> mixed_documents() {
  tigon::Random random(3);
  std::vector<std::string> documents;
  for (int i = 0; i < 400; ++i) {
    documents.push_back("document " + std::to_string(i) + "\n" +
                        std::string(random.below(i % 40 == 0 ? 600000 : 4000), 'a' + i % 26));
  }
  return documents;
}

}  // namespace

TEST_CASE("parallel tokenization gives what a serial one gives, in order") {
  const TemporaryFolder folder;
  const auto documents = mixed_documents();
  const auto file = folder.write("a.txt", join_documents(documents));
  const ByteTokenizer tokenizer;
  const auto serial = encode(file, tokenizer, 1);
  REQUIRE(serial.size() == documents.size());
  for (size_t i = 0; i < documents.size(); ++i) {
    CHECK(serial[i] == ByteTokenizer().encode(documents[i]));
  }
  // One call a document.
  CHECK(tokenizer.num_calls == static_cast<int>(documents.size()));
  for (const int num_threads : {2, 3, 8}) CHECK(encode(file, tokenizer, num_threads) == serial);
}

TEST_CASE("several threads may use one sentencepiece tokenizer") {
  const TemporaryFolder folder;
  const auto model = folder.write("a.model", train_tiny_tokenizer());
  const auto tokenizer = tigon::load_tokenizer(model);
  std::vector<std::string> documents;
  for (int i = 0; i < 100; ++i) documents.push_back(tiny_text(200 + 30 * i, i));
  const auto file = folder.write("a.txt", join_documents(documents));
  CHECK(encode(file, *tokenizer, 4) == encode(file, *tokenizer, 1));
}

TEST_CASE("tokenizing reports how many bytes a document had") {
  const TemporaryFolder folder;
  const auto file = folder.write("a.txt", join_documents({"abc", "x y z"}));
  std::vector<size_t> sizes;
  encode_corpus({file}, ByteTokenizer(), 1,
                [&](EncodedDocument&& document) { sizes.push_back(document.text_bytes); });
  CHECK(sizes == std::vector<size_t>{3, 5});
}

TEST_CASE("an error while tokenizing ends it and is thrown") {
  const TemporaryFolder folder;
  auto documents = mixed_documents();
  documents[documents.size() / 2] = "refuse me";
  const auto file = folder.write("a.txt", join_documents(documents));
  for (const int num_threads : {1, 3}) {
    check_refused([&] { encode(file, ByteTokenizer(), num_threads); },
                  "a text that this tokenizer refuses");
  }
  const auto stop = [](EncodedDocument&&) { tigon::fail("stop here"); };
  check_refused([&] { encode_corpus({file}, ByteTokenizer(), 2, stop); }, "stop here");
  check_refused([&] { encode({folder.path() / "absent.txt"}, ByteTokenizer(), 2); }, "absent.txt");
  check_refused([&] { encode(file, ByteTokenizer(), 0); },
                "tokenizing: expected at least 1 thread, found 0");
}
