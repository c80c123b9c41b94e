// config.json of an exported folder.
#pragma once
#include "core/dtype.h"
#include "linearize/convert.h"

namespace tigon {

/// The base's own config.json with the weights' element type; for a linearized model also
/// model_type tigon, base_model_type, auto_map and the `linearize` block.
Json exported_config(const LoadedModel& loaded, DType dtype);

}  // namespace tigon
