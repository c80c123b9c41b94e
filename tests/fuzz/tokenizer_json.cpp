// tokenizer.json, and texts through the tokenizer it describes.
#include "data/tokenizer.h"
#include "fuzz/fuzz.h"
#include "fuzz/input_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  static const fuzz::InputFolder folder;
  folder.write("tokenizer.json", fuzz::text_of(data, size));
  fuzz::read_or_refuse([&] {
    const auto tokenizer = load_tokenizer(folder.path());
    tokenizer->decode(tokenizer->encode("Once upon a time,\n\n  é 漢字 123 <s>"));
    tokenizer->decode(tokenizer->encode(fuzz::text_of(data, size)));
  });
  return 0;
}
