// Refused input: the call must throw, and the message must say what a user needs to know.
#pragma once
#include <exception>
#include <string>

#include "support/catch.h"

namespace tigon::testing {

/// Fails unless `call` throws an Expected whose message contains `text`.
template <class Expected = std::exception, class Call>
void check_refused(Call&& call, const std::string& text) {
  std::string message = "(nothing was thrown)";
  try {
    call();
  } catch (const Expected& error) {
    message = error.what();
  }
  INFO("message: " << message);
  INFO("expected in it: " << text);
  CHECK(message.find(text) != std::string::npos);
}

}  // namespace tigon::testing
