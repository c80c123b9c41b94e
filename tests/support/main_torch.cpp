// Entry point of test programs that see Torch: uninitialised memory is filled with NaN, so that an
// output nobody wrote is found.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif
#include <ATen/Context.h>

int main(int argc, char** argv) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(true);
  return Catch::Session().run(argc, argv);
}
