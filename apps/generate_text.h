// What `tigon generate` does once its options are read.
#pragma once
#include <string>

#include "command.h"
#include "generate/generate.h"

namespace tigon {

struct GenerateTextOptions {
  std::string model, adapter;
  std::string prompt, prompt_file;  // at most one of them; both empty: BOS alone
  GenerateOptions generate;
  std::string out;  // empty: one text to stdout
  int64_t num_samples = 1;
  int64_t batch = 64;
  bool json = false;
  DeviceOptions device;
};

void generate_text(const GenerateTextOptions& options);

}  // namespace tigon
