#include "io/safetensors.h"

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  fuzz::read_or_refuse([&] {
    const SafetensorsFile file(fuzz::bytes_of(data, size), "input");
    for (const auto& [name, view] : file.tensors()) fuzz::touch(view.data, view.bytes);
  });
  return 0;
}
