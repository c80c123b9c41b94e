#include "apps/program.h"
#include "eval/comparison.h"
#include "export/hf_folder.h"
#include "support/compare.h"
#include "support/tolerance.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> eval_arguments(const std::filesystem::path& model,
                                        const TinyFolders& tiny) {
  return {"eval",   "--model", model,      "--text", tiny.text(), "--seq-len", "96",
          "--rows", "3",       "--device", "cpu",    "--dtype",   "float32"};
}

RowSet same_rows(const TinyFolders& tiny, const RowOptions& options) {
  const auto tokenizer = load_tokenizer(tiny.teacher());
  return RowSet(open_token_shard({tiny.text()}, *tokenizer, tiny.folder / "cache", 1), options, 1,
                kTinyVocabulary);
}

}  // namespace

TEST_CASE("eval prints tokens, loss and perplexity") {
  const TinyFolders tiny;
  const Json json = tigon_json(eval_arguments(tiny.teacher(), tiny));
  const LoadedModel model = load_any_model(tiny.teacher(), at::kFloat, at::kCPU);
  const LossResult expected =
      evaluate_loss(model.model, model.stack,
                    same_rows(tiny, {.seq_len = 96, .order = "file", .max_rows = 3}), 8, true, "");
  CHECK(json["tokens"] == 3 * 95);
  CHECK(json["nats_per_token"].get<double>() ==
        Approx(expected.nats_per_token).epsilon(kFloat32Op));
  CHECK(json["perplexity"].get<double>() ==
        Approx(expected.perplexity).epsilon(kFloat32Model * 10));
  CHECK(json.size() == 3);

  const ChildResult text = tigon_program(eval_arguments(tiny.teacher(), tiny));
  CHECK(text.standard_output.find("285 predictions") != std::string::npos);
}

TEST_CASE("eval with borders and without BOS") {
  const TinyFolders tiny;
  std::vector<std::string> arguments = eval_arguments(tiny.teacher(), tiny);
  arguments.insert(arguments.end(), {"--borders", "documents", "--bos", "none", "--rows", "0"});
  arguments.erase(std::ranges::find(arguments, "--rows"),
                  std::ranges::find(arguments, "--rows") + 2);
  const Json json = tigon_json(arguments);
  const RowSet rows =
      same_rows(tiny, {.seq_len = 96, .borders = "documents", .bos = "none", .order = "file"});
  int64_t predictions = 0;
  for (int64_t i = 0; i < rows.size(); ++i) {
    predictions += 96 - static_cast<int64_t>(rows.row(i).segment_lengths.size());
  }
  CHECK(json["tokens"] == predictions);
  CHECK(predictions < rows.size() * 95);
}

TEST_CASE("eval --decode adds the loss token by token") {
  const TinyFolders tiny;
  const std::filesystem::path student =
      tiny.student(load_plan("liger-gla", {"window_keys=16", "state_dtype=bfloat16"}));
  std::vector<std::string> arguments = eval_arguments(student, tiny);
  arguments.insert(arguments.end(), {"--decode", "--batch-rows", "2"});
  const Json json = tigon_json(arguments);
  CHECK(json["decoded"]["tokens"] == json["tokens"]);
  const double decoded = json["decoded"]["nats_per_token"].get<double>();
  CHECK(decoded != json["nats_per_token"].get<double>());
  CHECK(decoded == Approx(json["nats_per_token"].get<double>()).epsilon(kRoundedState));
  CHECK(tigon_program(arguments).standard_output.find("token by token") != std::string::npos);

  arguments.insert(arguments.end(), {"--teacher", tiny.teacher()});
  const Json beside = tigon_json(arguments);
  CHECK(beside["decoded"] == beside["comparison"]["decoded"]);
  CHECK(beside["decoded"]["nats_per_token"].get<double>() == Approx(decoded).epsilon(kFormsAgree));
  CHECK(beside["comparison"].size() == 7);
  CHECK(tigon_program(arguments).standard_output.find("decoded") != std::string::npos);

  arguments.push_back("--needle");
  CHECK(tigon_program(arguments).exit_code == 2);
}

TEST_CASE("eval beside the teacher adds the baselines and what was recovered") {
  const TinyFolders tiny;
  const std::filesystem::path student = tiny.student(load_plan("liger-gla", {"window_keys=16"}));
  std::vector<std::string> arguments = eval_arguments(student, tiny);
  const Json alone = tigon_json(arguments);
  arguments.insert(arguments.end(), {"--teacher", tiny.teacher()});
  const Json json = tigon_json(arguments);
  const LoadedModel teacher = load_any_model(tiny.teacher(), at::kFloat, at::kCPU);
  const LoadedModel loaded = load_any_model(student, at::kFloat, at::kCPU);
  const Comparison expected = compare(
      loaded, teacher.model, same_rows(tiny, {.seq_len = 96, .order = "file", .max_rows = 3}), 8);
  REQUIRE(json["comparison"].size() == 6);
  for (const ComparisonRow& row : expected.rows) {
    INFO(row.name);
    CHECK(json["comparison"][row.name]["nats_per_token"].get<double>() ==
          Approx(row.result.nats_per_token).epsilon(kFloat32Op));
  }
  CHECK(json["tokens"] == 3 * 95);
  CHECK(json["nats_per_token"] == json["comparison"]["trained"]["nats_per_token"]);
  CHECK(json["nats_per_token"].get<double>() ==
        Approx(alone["nats_per_token"].get<double>()).epsilon(kFloat32Op));
  CHECK(json.contains("recovered"));
  CHECK(json.contains("over_own_window"));

  const ChildResult table = tigon_program(arguments);
  for (const std::string name : {"teacher", "window only", "own window", "converted", "trained",
                                 "branch off", "recovered"}) {
    CHECK(table.standard_output.find(name) != std::string::npos);
  }
}

TEST_CASE("eval of a teacher with an adapter leaves the adapter out of the baselines") {
  const TinyFolders tiny;
  LoadedModel student = load_any_model(tiny.teacher(), at::kFloat, at::kCPU);
  student.plan = load_plan("liger-gla", {"window_keys=16"});
  student.stack = build_stack(student.plan, student.model.config);
  const LoraOptions lora{.rank = 2, .alpha = 4};
  add_adapters(student.model.weights, lora, 5);
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, parameter] : adapter_parameters(student.model.weights)) {
      parameter.copy_(random_tensor(parameter.sizes(), name.size()).cpu() * 0.2);
    }
  }
  const std::filesystem::path adapter = tiny.folder / "adapter";
  export_adapter(student, lora, adapter, {.base_folder = tiny.teacher()});

  std::vector<std::string> arguments = eval_arguments(tiny.teacher(), tiny);
  const Json teacher = tigon_json(arguments);
  arguments.insert(arguments.end(), {"--adapter", adapter});
  const Json alone = tigon_json(arguments);
  arguments.insert(arguments.end(), {"--teacher", tiny.teacher()});
  const Json both = tigon_json(arguments);
  const Comparison expected = compare(
      student, student.model, same_rows(tiny, {.seq_len = 96, .order = "file", .max_rows = 3}), 8);
  for (const ComparisonRow& row : expected.rows) {
    INFO(row.name);
    CHECK(both["comparison"][row.name]["nats_per_token"].get<double>() ==
          Approx(row.result.nats_per_token).epsilon(kFloat32Op));
  }
  CHECK(both["comparison"]["teacher"]["nats_per_token"] == teacher["nats_per_token"]);
  CHECK(both["nats_per_token"] == alone["nats_per_token"]);
  CHECK(both["nats_per_token"] != both["comparison"]["converted"]["nats_per_token"]);
}

TEST_CASE("eval refuses what it cannot do") {
  const TinyFolders tiny;
  const std::filesystem::path student = tiny.student({.recipe = "window"});
  std::vector<std::string> tasks = eval_arguments(tiny.teacher(), tiny);
  tasks.insert(tasks.end(), {"--tasks", "piqa"});
  check_fails(tasks, 2, "--tasks is not available in this version");
  std::vector<std::string> reversed = eval_arguments(tiny.teacher(), tiny);
  reversed.insert(reversed.end(), {"--teacher", student});
  check_fails(reversed, 1, "expected a teacher, found a linearized model (window)");
}

TEST_CASE("eval --needle prints a table for student and teacher, and writes a page") {
  const TinyFolders tiny;
  const std::filesystem::path student = tiny.student(load_plan("liger-gla", {"window_keys=16"}));
  const std::filesystem::path page = tiny.folder / "needle.html";
  std::vector<std::string> arguments = eval_arguments(student, tiny);
  arguments.insert(arguments.end(),
                   {"--teacher", tiny.teacher(), "--needle", "--needle-lengths", "256,300",
                    "--needle-depths", "0,1", "--needle-trials", "2", "--needle-page", page});
  const Json json = tigon_json(arguments).at("needle");
  for (const std::string name : {"teacher", "student"}) {
    REQUIRE(json.at(name).size() == 4);
    CHECK(json.at(name)[3].at("length") == 300);
    CHECK(json.at(name)[3].at("trials") == 2);
    CHECK(json.at(name)[3].at("nats_per_token").get<double>() > 0);
  }
  CHECK(std::filesystem::exists(page));
  const ChildResult table = tigon_program(arguments);
  CHECK(table.standard_output.find("student, keys found") != std::string::npos);
}
