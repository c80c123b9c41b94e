// Corpora for tests.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/byte_tokenizer.h"
#include "data/token_shard.h"
#include "support/temporary_folder.h"

namespace tigon::testing {

/// Documents as a file's text, with a separator line between them.
inline std::string join_documents(const std::vector<std::string>& documents) {
  std::string text;
  for (const std::string& document : documents) {
    if (!text.empty()) text.append("\n\0\n", 3);
    text += document;
  }
  return text;
}

/// The shard of these documents, one id a byte (ByteTokenizer).
inline TokenShard byte_shard(const TemporaryFolder& folder,
                             const std::vector<std::string>& documents) {
  const auto file = folder.write("corpus.txt", join_documents(documents));
  return open_token_shard({file}, ByteTokenizer(), folder.path() / "cache", 1);
}

}  // namespace tigon::testing
