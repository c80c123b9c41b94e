#include <signal.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "apps/program.h"
#include "data/corpus.h"
#include "generate/generate.h"
#include "linearize/convert.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> generate_arguments(const std::filesystem::path& model,
                                            const std::vector<std::string>& more) {
  std::vector<std::string> all = {"generate", "--model", model,     "--max-new-tokens", "20",
                                  "--device", "cpu",     "--dtype", "float32"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<int64_t> prompt_ids(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<int64_t> ids = {1};
  for (const int32_t id : tokenizer.encode(prompt)) ids.push_back(id);
  return ids;
}

}  // namespace

TEST_CASE("generate gives the library's greedy tokens, as JSON and as a stream") {
  const TinyFolders tiny;
  const std::filesystem::path student = tiny.student(load_plan("liger-gla", {"window_keys=16"}));
  const auto tokenizer = load_tokenizer(tiny.teacher());
  const std::string prompt = "ba neti lo gramu";
  for (const std::filesystem::path& folder : {tiny.teacher(), student}) {
    const LoadedModel loaded = load_any_model(folder, at::kFloat, at::kCPU);
    const std::vector<int64_t> ids = prompt_ids(*tokenizer, prompt);
    const Generation expected =
        generate(loaded.model, loaded.stack, {ids}, {.max_new_tokens = 20, .stop_ids = {2}})
            .front();
    const Json json = tigon_json(generate_arguments(folder, {"--prompt", prompt}));
    CHECK(json["tokens"].get<std::vector<int64_t>>() == expected.tokens);
    CHECK(json["prompt_tokens"] == ids.size());
    CHECK(json["stopped"] == expected.stopped);
    std::vector<int32_t> all(ids.begin(), ids.end());
    all.insert(all.end(), expected.tokens.begin(), expected.tokens.end());
    CHECK(prompt + json["text"].get<std::string>() == tokenizer->decode(all));

    const ChildResult stream = tigon_program(generate_arguments(folder, {"--prompt", prompt}));
    CHECK(stream.exit_code == 0);
    CHECK(stream.standard_output == tokenizer->decode(all) + "\n");
  }
}

TEST_CASE("generate takes the prompt from a file, or starts from BOS alone") {
  const TinyFolders tiny;
  tiny.folder.write("prompt.txt", "ba ti");
  const Json from_file =
      tigon_json(generate_arguments(tiny.teacher(), {"--prompt-file", tiny.folder / "prompt.txt"}));
  const Json direct = tigon_json(generate_arguments(tiny.teacher(), {"--prompt", "ba ti"}));
  CHECK(from_file["tokens"] == direct["tokens"]);
  CHECK(tigon_json(generate_arguments(tiny.teacher(), {}))["prompt_tokens"] == 1);
  check_fails(generate_arguments(tiny.teacher(), {"--prompt", "a", "--prompt-file", "b"}), 2,
              "--prompt");
}

TEST_CASE("a seed decides the sampled text") {
  const TinyFolders tiny;
  const auto tokens = [&](const std::string& seed) {
    return tigon_json(generate_arguments(
        tiny.teacher(),
        {"--temperature", "1", "--top-k", "50", "--top-p", "0.9", "--seed", seed}))["tokens"];
  };
  CHECK(tokens("1") == tokens("1"));
  CHECK(tokens("1") != tokens("2"));
}

TEST_CASE("many samples go to a file, the same for every batch size") {
  const TinyFolders tiny;
  const auto samples = [&](const std::string& name, const std::string& batch) {
    const Json json = tigon_json(generate_arguments(
        tiny.teacher(), {"--prompt", "ba ti", "--temperature", "1", "--num-samples", "7", "--batch",
                         batch, "--ignore-eos", "--out", tiny.folder / name}));
    CHECK(json["samples"] == 7);
    CHECK(json["tokens"] == 7 * 20);
    return read_text_file(tiny.folder / name);
  };
  const std::string lines = samples("a.jsonl", "7");
  CHECK(samples("b.jsonl", "3") == lines);
  const std::string documents = samples("c.txt", "3");
  CHECK(std::ranges::count(documents, '\0') == 6);

  std::vector<std::string> texts;
  for_each_document({tiny.folder / "c.txt"},
                    [&](Document&& document) { texts.push_back(document.pieces[0].text); });
  REQUIRE(texts.size() == 7);
  std::istringstream stream(lines);
  size_t i = 0;
  for (std::string line; std::getline(stream, line); ++i) {
    const Json sample = Json::parse(line);
    CHECK(sample["tokens"].size() == 20);
    // A document carries its prompt; outer newlines are no part of it.
    const std::string whole = "ba ti" + sample["text"].get<std::string>();
    CHECK(whole.starts_with(texts.at(i)));
  }
  CHECK(i == 7);
}

TEST_CASE("generate refuses what it cannot do and leaves no file") {
  const TinyFolders tiny;
  const std::filesystem::path model = tiny.teacher();
  check_fails(generate_arguments(model, {"--num-samples", "3"}), 2, "--out");
  check_fails(generate_arguments(model, {"--out", tiny.folder / "samples.csv"}), 2,
              "expected a file that ends in .txt or .jsonl");
  check_fails(generate_arguments(model, {"--temperature", "-1"}), 2, "temperature: expected");
  check_fails(generate_arguments(model, {"--top-p", "1.5"}), 2, "top_p: expected");
  check_fails(generate_arguments(model, {"--top-k", "-3"}), 2, "top_k: expected");
  const std::vector<std::string> before = tiny.folder.names();
  check_fails(generate_arguments(model, {"--num-samples", "9", "--ignore-eos", "--out",
                                         tiny.folder / "samples.jsonl"}),
              1, "samples.jsonl", {.max_file_bytes = 500});
  CHECK(tiny.folder.names() == before);
}

TEST_CASE("an interrupted run of samples leaves no file and says so by its exit code") {
  const TinyFolders tiny;
  const std::vector<std::string> before = tiny.folder.names();
  std::vector<std::string> command =
      generate_arguments(tiny.teacher(), {"--num-samples", "1000000", "--batch", "4",
                                          "--ignore-eos", "--out", tiny.folder / "samples.txt"});
  command.insert(command.begin(), TIGON_BINARY_FOLDER "/tigon");
  for (const auto& [signal, exit_code] : {std::pair(SIGINT, 130), std::pair(SIGTERM, 143)}) {
    ChildProcess child(command);
    // The temporary file appears when generation starts.
    while (tiny.folder.names() == before && !child.has_ended()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    child.send_signal(signal);
    const ChildResult result = child.wait();
    INFO(result.standard_error);
    CHECK(result.exit_code == exit_code);
    CHECK(tiny.folder.names() == before);
  }
}
