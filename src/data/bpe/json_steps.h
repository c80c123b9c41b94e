// What the readers of the parts of a tokenizer.json share.
#pragma once
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "data/bpe/pre_tokenizer.h"
#include "data/bpe/regex.h"
#include "io/json_fields.h"

namespace tigon {

/// Calls visit(type, fields) for the object under `key`, or, if that is a Sequence, for the members
/// of its list `members_key`, in order, whatever their depth. Nothing happens if there is none.
void for_each_step(
    const JsonFields& fields, std::string_view key, std::string_view members_key,
    const std::function<void(const std::string& type, const JsonFields& step)>& visit);

/// The `pattern` of a step: {"String": …} or {"Regex": …}.
Regex read_pattern(const JsonFields& step);

/// How a Metaspace step (pre-tokenizer or decoder) puts its character before a text.
PrependScheme read_prepend_scheme(const JsonFields& step);

/// A text of exactly one character.
std::string read_character(const JsonFields& step, std::string_view key);

/// Throws Error naming the first key of `fields` that is not in the list.
void check_keys(const JsonFields& fields, std::initializer_list<std::string_view> known);

/// Throws Error: the step's type is none of `known`.
[[noreturn]] void refuse_type(const JsonFields& step, std::string_view known);

}  // namespace tigon
