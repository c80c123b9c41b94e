// A small byte-level tokenizer.json for tests: bytes are 0 … 255, then come a few merges.
#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "data/bpe/byte_characters.h"
#include "io/json_file.h"

namespace tigon::testing {

/// Merges " t"+"h" (ids 256, 257) and "l"+"l" (258); <|end|> is 259. Text is split as GPT-2 does.
inline Json tiny_tokenizer_json() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[characters_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  }
  vocabulary["Ġt"] = 256;
  vocabulary["Ġth"] = 257;
  vocabulary["ll"] = 258;
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {
      {"version", "1.0"},
      {"added_tokens",
       Json::array(
           {{{"id", 259}, {"content", "<|end|>"}, {"normalized", false}, {"special", true}}})},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array({"Ġ t", "Ġt h", "l l"})}}}};
}

/// A small sentencepiece-style one: <unk>, <s>, </s>, 256 bytes from 3 on, "▁" 259, "a" 260, "▁a"
/// 261.
inline Json tiny_sentencepiece_json() {
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  vocabulary["▁"] = 259;
  vocabulary["a"] = 260;
  vocabulary["▁a"] = 261;
  const Json space = {{"String", " "}}, symbol = {{"String", "▁"}};
  const Json added = {{{"id", 1}, {"content", "<s>"}, {"normalized", false}, {"special", true}}};
  return {{"added_tokens", added},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "▁"}},
              {{"type", "Replace"}, {"pattern", space}, {"content", "▁"}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", symbol}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}}},
          {"model",
           {{"type", "BPE"},
            {"byte_fallback", true},
            {"fuse_unk", true},
            {"unk_token", "<unk>"},
            {"vocab", vocabulary},
            {"merges", Json::array({Json::array({"▁", "a"})})}}}};
}

}  // namespace tigon::testing
