#include "generate_text.h"

#include <algorithm>
#include <chrono>

#include "core/interrupt.h"
#include "core/log.h"
#include "core/progress.h"
#include "data/tokenizer.h"
#include "generate/sample_file.h"
#include "linearize/convert.h"

namespace tigon {
namespace {

/// A model, its tokenizer and the prompt's ids.
struct Session {
  LoadedModel loaded;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int64_t> prompt;
  GenerateOptions options;
};

Session open_session(const GenerateTextOptions& options) {
  const at::Device device = choose_device(options.device.device);
  check_sampling_options(options.generate.sampling);
  Session session{
      .loaded = load_any_model(options.model, choose_dtype(options.device.dtype, device), device,
                               options.adapter),
      .tokenizer = load_tokenizer(options.model),
      .prompt = {},
      .options = options.generate};
  const Tokenizer& tokenizer = *session.tokenizer;
  if (tokenizer.adds_bos()) session.prompt.push_back(*tokenizer.bos_id());
  const auto ids = tokenizer.encode(
      options.prompt_file.empty() ? options.prompt : read_text_file(options.prompt_file));
  session.prompt.insert(session.prompt.end(), ids.begin(), ids.end());
  if (session.prompt.empty())
    fail("the prompt is empty and the tokenizer adds no BOS to start from");
  session.options.stop_ids = session.loaded.model.config.eos_token_ids;
  if (tokenizer.eos_id()) session.options.stop_ids.push_back(*tokenizer.eos_id());
  const int64_t positions = session.loaded.model.config.max_position_embeddings;
  const int64_t longest =
      static_cast<int64_t>(session.prompt.size()) + session.options.max_new_tokens;
  if (session.loaded.plan.is_teacher() && longest > positions) {
    log_warning("generate", "a text of {} tokens is longer than the {} positions the model knows",
                longest, positions);
  }
  return session;
}

/// Decodes prompt and generated ids, and gives the text after the prompt's: so a leading space
/// stays.
std::string continuation_text(const Session& session, const std::vector<int64_t>& generated) {
  const auto decode = [&](std::span<const int64_t> ids) {
    return session.tokenizer->decode(std::vector<int32_t>(ids.begin(), ids.end()));
  };
  std::vector<int64_t> all = session.prompt;
  all.insert(all.end(), generated.begin(), generated.end());
  const std::string before = decode(session.prompt), whole = decode(all);
  return whole.starts_with(before) ? whole.substr(before.size()) : decode(generated);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Prints the prompt and then each piece of text as it is drawn.
void stream_one(const Session& session) {
  StreamDecoder decoder(*session.tokenizer);
  for (const int64_t id : session.prompt) print_text(decoder.push(static_cast<int32_t>(id)));
  generate(session.loaded.model, session.loaded.stack, {session.prompt}, session.options,
           [&](int64_t, int64_t id) { print_text(decoder.push(static_cast<int32_t>(id))); });
  print_text(decoder.finish() + "\n");
}

void print_one_as_json(const Session& session) {
  const auto start = std::chrono::steady_clock::now();
  const Generation generation =
      generate(session.loaded.model, session.loaded.stack, {session.prompt}, session.options)
          .front();
  const double seconds = seconds_since(start);
  print_json({{"text", continuation_text(session, generation.tokens)},
              {"tokens", generation.tokens},
              {"prompt_tokens", session.prompt.size()},
              {"stopped", generation.stopped},
              {"seconds", seconds},
              {"tokens_per_second", static_cast<double>(generation.tokens.size()) / seconds}});
}

void generate_file(const Session& session, const GenerateTextOptions& options) {
  watch_for_interrupts();
  SampleFile file(options.out);
  const std::string prompt_text =
      session.tokenizer->decode(std::vector<int32_t>(session.prompt.begin(), session.prompt.end()));
  Progress progress("generate", options.num_samples * options.generate.max_new_tokens, "tokens");
  const auto start = std::chrono::steady_clock::now();
  int64_t num_tokens = 0;
  const auto count_token = [&](int64_t, int64_t) {
    progress.update(++num_tokens);
    // Nothing is half-written: the unfinished file is removed on the way out.
    if (pending_interrupt() != 0) exit_interrupted(pending_interrupt());
  };
  for (int64_t first = 0; first < options.num_samples; first += options.batch) {
    const int64_t count = std::min(options.batch, options.num_samples - first);
    const std::vector<std::vector<int64_t>> prompts(count, session.prompt);
    for (const Generation& generation : generate(session.loaded.model, session.loaded.stack,
                                                 prompts, session.options, count_token, first)) {
      const std::string text = continuation_text(session, generation.tokens);
      file.add(file.holds_documents() ? prompt_text + text : text, generation.tokens);
    }
  }
  progress.finish();
  file.commit();
  const double seconds = seconds_since(start);
  const Json result = {{"out", options.out},
                       {"samples", options.num_samples},
                       {"tokens", num_tokens},
                       {"seconds", seconds},
                       {"tokens_per_second", static_cast<double>(num_tokens) / seconds}};
  if (options.json) return print_json(result);
  print_text(fmt::format("{}: {} samples, {} tokens, {:.0f} tokens/s\n", options.out,
                         options.num_samples, num_tokens, num_tokens / seconds));
}

}  // namespace

void generate_text(const GenerateTextOptions& options) {
  const Session session = open_session(options);
  if (!options.out.empty()) return generate_file(session, options);
  if (options.json) return print_one_as_json(session);
  stream_one(session);
}

}  // namespace tigon
