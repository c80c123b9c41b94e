// The decoder and the post-processor of a tokenizer.json.
#include <utility>

#include "data/bpe/json_steps.h"
#include "data/bpe/tokenizer_json_parts.h"

namespace tigon {
namespace {

constexpr std::string_view kKnownDecoders =
    "ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence";
constexpr std::string_view kKnownProcessors = "TemplateProcessing, ByteLevel, Sequence";

DecoderStep read_strip(const JsonFields& step) {
  check_keys(step, {"type", "content", "start", "stop"});
  constexpr int64_t kMost = 1 << 20;
  return strip_decoder_step(read_character(step, "content"),
                            static_cast<size_t>(step.integer("start", 0, kMost)),
                            static_cast<size_t>(step.integer("stop", 0, kMost)));
}

/// One element of a template: {"SpecialToken": {"id": …}} or {"Sequence": {"id": "A"}}.
void read_template_element(const JsonFields& element, TemplatePart& part, bool& is_behind) {
  check_keys(element, {"SpecialToken", "Sequence"});
  if (element.has("Sequence")) {
    if (is_behind) element.refuse("Sequence", "one text", "a second one");
    is_behind = true;
    return;
  }
  std::optional<std::string>& place = is_behind ? part.after : part.before;
  if (place) {
    element.refuse("SpecialToken", "at most one token before and one behind the text", "more");
  }
  place = element.object("SpecialToken").text("id");
}

void read_single_template(const JsonFields& step, TemplatePart& part) {
  check_keys(step, {"type", "single", "pair", "special_tokens"});
  const Json* const single = step.find("single");
  if (single == nullptr || !single->is_array()) {
    step.refuse("single", "a list", single == nullptr ? "nothing" : single->type_name());
  }
  part.is_there = true;
  bool is_behind = false;
  for (const Json& element : *single) {
    read_template_element(JsonFields(element, step.name_of("single"), " "), part, is_behind);
  }
}

}  // namespace

DecoderPart read_decoder(const JsonFields& fields) {
  DecoderPart part;
  for_each_step(fields, "decoder", "decoders",
                [&](const std::string& type, const JsonFields& step) {
                  if (type == "ByteLevel") {
                    check_keys(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
                    part.steps.add(byte_level_decoder_step());
                  } else if (type == "Metaspace") {
                    check_keys(step, {"type", "replacement", "add_prefix_space", "prepend_scheme",
                                      "split", "str_rep"});
                    part.steps.add(
                        metaspace_decoder_step(read_character(step, "replacement"),
                                               read_prepend_scheme(step) != PrependScheme::kNever));
                  } else if (type == "Replace") {
                    check_keys(step, {"type", "pattern", "content"});
                    part.steps.add(replace_decoder_step(read_pattern(step), step.text("content")));
                  } else if (type == "ByteFallback") {
                    check_keys(step, {"type"});
                    part.steps.add(byte_fallback_decoder_step());
                    part.has_byte_fallback = true;
                  } else if (type == "Fuse") {
                    check_keys(step, {"type"});
                    part.steps.add(fuse_decoder_step());
                  } else if (type == "Strip") {
                    part.steps.add(read_strip(step));
                  } else {
                    refuse_type(step, kKnownDecoders);
                  }
                });
  return part;
}

TemplatePart read_template(const JsonFields& fields) {
  TemplatePart part;
  for_each_step(fields, "post_processor", "processors",
                [&](const std::string& type, const JsonFields& step) {
                  if (type == "TemplateProcessing") return read_single_template(step, part);
                  // It moves offsets, which tigon does not give.
                  if (type != "ByteLevel") refuse_type(step, kKnownProcessors);
                });
  return part;
}

}  // namespace tigon
