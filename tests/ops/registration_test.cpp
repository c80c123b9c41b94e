// Looks the ops up by name and includes no header of theirs: a library that lost its static
// initialisers would be found here.
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

#include "support/catch.h"

TEST_CASE("every op is registered with the dispatcher", "[registration]") {
  for (const std::string op :
       {"add_rms_norm", "gated_scan", "head_norm", "joint_attention", "joint_decode",
        "liger_attention", "liger_decode", "linear_cross_entropy", "lora_linear", "rms_norm",
        "rope", "stochastic_round", "swiglu", "swiglu_packed", "token_negative_log_likelihood",
        "window_attention"}) {
    INFO("op " << op);
    const auto handle = c10::Dispatcher::singleton().findSchema({"tigon::" + op, ""});
    REQUIRE(handle.has_value());
    CHECK(handle->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd));
  }
}
