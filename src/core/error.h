// The two kinds of failure a user can cause. Our own bugs are TORCH_INTERNAL_ASSERTs.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tigon {

/// A fault of the input, the data or the environment: the program prints `error: …` and exits 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Wrong usage or a wrong config: the program exits 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// All problems of one config at once, e.g.
///   configs/train/x.yaml: 2 problems
///     line 14  lora.rnk: unknown key (did you mean lora.rank?)
///     line 21  optimizer.lr: expected a number > 0, found "3e-4x"
class ConfigError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Throws Error with a formatted message. The message names the thing, what was expected and what
/// was found.
template <class... Arguments>
[[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  throw Error(fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace tigon
