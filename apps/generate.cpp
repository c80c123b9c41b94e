// tigon generate: text from a prompt to the terminal, or many samples to a file.

#include "command.h"
#include "generate_text.h"

namespace tigon {
namespace {

constexpr const char* kFooter = R"(Examples:
  tigon generate --model DIR --prompt "Once upon a time"
  tigon generate --model DIR --prompt "Call me" --temperature 0.8 --top-p 0.95 --seed 7 --json
  tigon generate --model DIR --temperature 1 --num-samples 1000 --batch 256 --ignore-eos \
      --max-new-tokens 1024 --out samples.txt

The prompt follows BOS where the tokenizer has one; an empty prompt is BOS alone. With --json, text
and tokens are what was generated, without the prompt. --out FILE.txt holds documents (prompt and
continuation) separated by a line with one NUL byte, as --text reads them; FILE.jsonl a line
{"text": …, "tokens": […]} a sample.)";

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("--max-new-tokens", options.max_new_tokens, "tokens to generate at most")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      .add_option("--temperature", options.sampling.temperature,
                  "0 takes the likeliest token; 1 draws from the model's own distribution")
      ->capture_default_str();
  command.add_option("--top-k", options.sampling.top_k, "draw among the k likeliest; 0: all")
      ->capture_default_str();
  command
      .add_option("--top-p", options.sampling.top_p,
                  "draw among the likeliest that together hold this probability")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "the same seed gives the same text")
      ->capture_default_str();
  command.add_flag("--ignore-eos", options.ignore_stop, "go on to --max-new-tokens after an end");
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Text from a prompt, or many samples");
  const auto options = std::make_shared<GenerateTextOptions>();
  command->add_option("--model", options->model, "model folder, teacher or linearized")
      ->required()
      ->type_name("DIR");
  command->add_option("--adapter", options->adapter, "adapter folder put on the model")
      ->type_name("DIR");
  CLI::Option* const prompt = command->add_option("--prompt", options->prompt, "what to continue");
  command->add_option("--prompt-file", options->prompt_file, "a file that holds the prompt")
      ->excludes(prompt)
      ->type_name("FILE");
  add_sampling_options(*command, options->generate);
  CLI::Option* const out =
      command->add_option("--out", options->out, "write samples to this file (.txt, .jsonl)")
          ->type_name("FILE");
  command->add_option("--num-samples", options->num_samples, "how many samples")
      ->needs(out)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--batch", options->batch, "samples generated at once")
      ->needs(out)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "print one JSON object");
  add_device_options(*command, options->device);
  command->footer(kFooter);
  command->callback([options] { generate_text(*options); });
}

}  // namespace tigon
