// A tiktoken file. Llama 3's has 128,000 lines, which no fuzzer finds: what is exercised is the
// parsing of lines and their refusal.
#include "data/bpe/tiktoken_tokenizer.h"
#include "fuzz/fuzz.h"
#include "fuzz/input_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  static const fuzz::InputFolder folder;
  folder.write("tokenizer.model", fuzz::text_of(data, size));
  is_tiktoken(fuzz::text_of(data, size));
  fuzz::read_or_refuse([&] { load_tiktoken(folder.path() / "tokenizer.model", folder.path()); });
  return 0;
}
