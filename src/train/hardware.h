// What a run runs on, and the memory it has used.
#pragma once
#include <ATen/core/Tensor.h>

#include "io/json_file.h"

namespace tigon {

/// Device and processor names, cores, threads, bytes of memory; for run.json.
Json describe_hardware(const at::Device& device);

/// The most memory this process has used: allocated on a GPU, resident on the CPU.
int64_t peak_memory_bytes(const at::Device& device);

}  // namespace tigon
