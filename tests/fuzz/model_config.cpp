// config.json, and Meta's params.json.
#include "io/model_config.h"

#include "fuzz/fuzz.h"
#include "io/meta_params.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  fuzz::read_or_refuse([&] {
    const Json json = parse_json(fuzz::text_of(data, size), "input");
    fuzz::read_or_refuse([&] { parse_model_config(json, "input"); });
    fuzz::read_or_refuse(
        [&] { parse_model_config(llama_config_of_meta_params(json, "input"), "input"); });
  });
  return 0;
}
