// A llama2.c file is a model or a tokenizer; the bytes are read as both.
#include "io/llama2c.h"

#include "data/llama2c_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "fuzz/fuzz.h"
#include "io/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  fuzz::read_or_refuse([&] {
    const Llama2cFile file(fuzz::bytes_of(data, size), "input");
    for (const auto& [name, view] : file.tensors()) fuzz::touch(view.data, view.bytes);
    parse_model_config(file.config_json(), "input");
  });
  fuzz::read_or_refuse([&] {
    const std::string model = sentencepiece_model_of_llama2c(fuzz::text_of(data, size), "input");
    const auto tokenizer = load_sentencepiece_model(model, "input", {});
    tokenizer->decode(tokenizer->encode("Once upon a time, é 漢"));
  });
  return 0;
}
