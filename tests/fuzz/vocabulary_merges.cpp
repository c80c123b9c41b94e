// vocab.json, merges.txt and tokenizer_config.json, which the input holds with a NUL between them.
#include <algorithm>

#include "data/tokenizer.h"
#include "fuzz/fuzz.h"
#include "fuzz/input_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  static const fuzz::InputFolder folder;
  std::string_view rest = fuzz::text_of(data, size);
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    const size_t end = std::min(rest.find('\0'), rest.size());
    folder.write(name, rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  fuzz::read_or_refuse([&] {
    const auto tokenizer = load_tokenizer(folder.path());
    tokenizer->decode(tokenizer->encode("Once upon a time,\n\n  é 漢字 123"));
  });
  return 0;
}
