// A resolved config as keys and values, for comparing runs.
#pragma once
#include <map>
#include <string>

namespace tigon {

/// "train.optimizer.lr" → "0.001": every value of a resolved config under its keys joined with
/// dots; lists as YAML writes them on one line. Throws Error naming `source_name` for text that is
/// no config.
std::map<std::string, std::string> flatten_config(const std::string& yaml,
                                                  const std::string& source_name = "config");

}  // namespace tigon
