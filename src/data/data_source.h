// An entry of data.train or data.validation: files, how to read them, and their share.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/config_reader.h"
#include "data/document_options.h"

namespace tigon {

struct DataSource {
  std::vector<std::string> paths = {};  // files, folders, patterns (data_files.h)
  DocumentOptions documents = {};
  double weight = 0;       // share of the tokens drawn; 0: not a part of a weighted mixture
  double epochs = 0;       // passes at most; 0: no limit
  int64_t max_tokens = 0;  // tokens drawn at most; 0: no limit
};

/// Reads a key that holds a path, a mapping {path, format, …} or a list of them. Neighbouring plain
/// paths become one source. Options that an entry does not give are `defaults`. With
/// `may_be_weighted` mappings also have weight, epochs and max_tokens; weights are for all entries
/// or none. A path that stands for no file, and a file that cannot have its format, are problems.
/// Empty if the key is absent.
std::vector<DataSource> read_data_sources(ConfigReader& reader, const std::string& key,
                                          const DocumentOptions& defaults, bool may_be_weighted);

/// Whether the sources are a weighted mixture.
bool is_weighted(const std::vector<DataSource>& sources);

}  // namespace tigon
