// JSON lines, JSON arrays and compressed files as documents. The first byte picks the file's kind
// and the format of its records.
#include <array>

#include "data/corpus.h"
#include "fuzz/fuzz.h"
#include "fuzz/input_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tigon;
  if (size == 0) return 0;
  static const fuzz::InputFolder folder;
  constexpr std::array kNames = {"a.jsonl", "a.json", "a.txt", "a.txt.gz", "a.jsonl.zst", "a.xz"};
  constexpr std::array kFormats = {"text", "alpaca", "chat"};
  const std::string name = kNames[data[0] % kNames.size()];
  DocumentOptions options;
  options.format = kFormats[data[0] / kNames.size() % kFormats.size()];
  if (options.format == "chat") options.chat_template = "chatml";
  if (options.format != "text") options.field = "";
  options.on_bad_record = (data[0] & 0x80) != 0 ? "skip" : "error";
  options.max_document_bytes = 1 << 16;
  folder.write(name, fuzz::text_of(data + 1, size - 1));
  fuzz::read_or_refuse([&] {
    size_t bytes = 0;
    for_each_document(
        {folder.path() / name}, [&](Document&& document) { bytes += document.text_bytes(); },
        options);
  });
  return 0;
}
