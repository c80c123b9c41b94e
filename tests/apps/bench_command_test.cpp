// tigon bench: both benchmarks at tiny sizes.
#include <fstream>

#include "apps/program.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> ops(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"bench",   "ops", "--device",   "cpu", "--shape",   "2x20",
                                        "--heads", "4/2", "--head-dim", "16",  "--repeats", "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<std::string> train(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"bench", "train",     "--device", "cpu",     "--shape",
                                        "tiny",  "--seq-len", "32",       "--steps", "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("bench ops checks and times every op") {
  const Json json = tigon_json(ops({}));
  CHECK(json["checks"].size() == 16);
  CHECK(json["measurements"].size() == 32);
  CHECK(json["dtype"] == "float32");
  CHECK(json["ceilings"]["copy_gb_per_s"] > 0);
  CHECK(json["ceilings"]["matrix_tflop_per_s"] > 0);
  for (const Json& measured : json["measurements"]) {
    INFO(measured);
    CHECK(measured["min_us"] > 0);
    CHECK(measured["median_us"] >= measured["min_us"]);
    CHECK(measured["max_us"] >= measured["median_us"]);
    CHECK(measured["bytes"] > 0);
    CHECK(measured["floor_us"] > 0);
    for (const char* key : {"op", "pass", "flop", "gb_per_s", "tflop_per_s", "share_of_floor"}) {
      CHECK(measured.contains(key));
    }
  }
  for (const Json& check : json["checks"]) {
    CHECK(check["relative_rms"].get<double>() <= check["tolerance"].get<double>());
  }
}

TEST_CASE("bench ops takes names and writes down what it measured") {
  const TemporaryFolder folder;
  const std::string file = (folder / "performance.md").string();
  const ChildResult result =
      tigon_program(ops({"rope", "swiglu", "--dtype", "bfloat16", "--record", file}));
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  for (const char* part : {"rope", "swiglu", "forward + backward", "of floor", "bfloat16"}) {
    INFO(part);
    CHECK(result.standard_output.find(part) != std::string::npos);
  }
  CHECK(result.standard_output.find("rms_norm") == std::string::npos);
  const std::string text = content(file);
  CHECK(text.starts_with("## Ops, 2 × 20 tokens, 4/2 heads of 16, bfloat16\n"));
  CHECK(text.find("bench ops --device cpu --shape 2x20") != std::string::npos);
  CHECK(text.find(result.standard_output) != std::string::npos);
}

TEST_CASE("bench ops --list says what serves each op") {
  const Json json = tigon_json(ops({"--list", "rope", "liger_attention"}));
  CHECK(json["implementations"].size() == 2 * 4 * 2);
  for (const Json& row : json["implementations"]) CHECK(row["served_by"] == "plain");
}

TEST_CASE("bench train runs the training step and the products alone") {
  const Json lora = tigon_json(train({}));
  for (const char* key :
       {"shape", "recipe", "device", "dtype", "parameters", "tokens_per_s", "step",
        "matrix_products", "share_of_matrix_products", "model_tflop_per_s",
        "share_of_matrix_ceiling", "ceilings", "product_shapes"}) {
    INFO(key);
    CHECK(lora.contains(key));
  }
  CHECK(lora["tokens_per_s"] > 0);
  CHECK(lora["peak_memory_bytes"] > 0);
  CHECK(lora["trained_parameters"] == 2 * 8 * (3 * 64 + 64 + 32 + 32));
  // Random tokens: nothing can be learnt beyond the uniform distribution.
  CHECK(lora["first_loss"].get<double>() == Approx(std::log(128.0)).epsilon(0.05));
  CHECK(std::isfinite(lora["last_loss"].get<double>()));

  const Json all =
      tigon_json(train({"--trainable", "all", "--memory", "smallest", "--recipe", "window"}));
  CHECK(all["trained_parameters"] == all["parameters"]);
  CHECK(all["memory"] == "smallest");

  const ChildResult text = tigon_program(train({"--lora-rank", "4"}));
  CHECK(text.exit_code == 0);
  CHECK(text.standard_output.find("LoRA of rank 4") != std::string::npos);
  CHECK(text.standard_output.find("tokens/s") != std::string::npos);
}

TEST_CASE("bench refuses what it does not know") {
  check_fails(ops({"attention"}), 2, "found 'attention'");
  check_fails({"bench", "ops", "--device", "cpu", "--shape", "20"}, 2, "found '20'");
  check_fails({"bench", "ops", "--device", "cpu", "--heads", "4/3"}, 2, "found 4/3 heads of 64");
  check_fails({"bench", "train", "--device", "cpu", "--shape", "9B"}, 2, "--shape");
  check_fails(train({"--recipe", "nothing"}), 2, "nothing");
  check_fails({"bench"}, 2, "A subcommand is required");
}

TEST_CASE("bench ops and bench train have help") {
  for (const std::string name : {"ops", "train"}) {
    const ChildResult result = tigon_program({"bench", name, "--help"});
    CHECK(result.exit_code == 0);
    for (const char* part : {"--json", "--record", "--device", "--dtype", "Examples"}) {
      CHECK(result.standard_output.find(part) != std::string::npos);
    }
  }
}
