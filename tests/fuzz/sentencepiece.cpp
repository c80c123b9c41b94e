// A sentencepiece model, and a text through it: the input's last bytes.
#include <algorithm>

#include "data/sentencepiece_tokenizer.h"
#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  constexpr size_t kTextBytes = 64;
  const std::string_view all = fuzz::text_of(data, size);
  const std::string_view text = all.substr(size - std::min(size, kTextBytes));
  fuzz::read_or_refuse([&] {
    const auto tokenizer = load_sentencepiece_model(std::string(all), "input", {});
    tokenizer->decode(tokenizer->encode(text));
    tokenizer->decode(tokenizer->encode("Once upon a time, é 漢"));
  });
  return 0;
}
