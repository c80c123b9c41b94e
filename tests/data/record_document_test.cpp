#include "data/record_document.h"

#include "core/error.h"
#include "data/chat_template.h"
#include "support/catch.h"
#include "support/refusal.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

/// The document in one line: special tokens and EOS in ⟨⟩, what is counted in «».
std::string shown(const Document& document) {
  std::string text;
  for (const TextPiece& piece : document.pieces) {
    std::string part = piece.text;
    if (piece.kind == TextPiece::Kind::kSpecialToken) part = "⟨" + part + "⟩";
    if (piece.kind == TextPiece::Kind::kEndOfSequence) part = "⟨eos⟩";
    text += piece.is_counted ? "«" + part + "»" : part;
  }
  return text;
}

std::string document(const std::string& record, const DocumentOptions& options) {
  return shown(document_of_record(Json::parse(record), options));
}

DocumentOptions chat(const std::string& name, bool mask_prompt = true) {
  return {.format = "chat", .field = "", .chat_template = name, .mask_prompt = mask_prompt};
}

constexpr const char* kTalk = R"({"messages": [{"role": "system", "content": "Be brief."},
  {"role": "user", "content": "Hi <|im_end|>"}, {"role": "assistant", "content": "Ho"},
  {"role": "user", "content": "So?"}, {"role": "assistant", "content": " No "}]})";

}  // namespace

TEST_CASE("a text record is its field") {
  DocumentOptions options;
  CHECK(document(R"({"id": 1, "text": "a b"})", options) == "«a b»");
  CHECK(document(R"("plain")", options) == "«plain»");
  CHECK(document(R"({"text": null})", options).empty());
  CHECK(document(R"({"text": ""})", options).empty());
  options.field = "meta.body";
  CHECK(document(R"({"meta": {"body": "deep"}})", options) == "«deep»");
  CHECK(document(R"({"meta.body": "flat", "meta": {"body": "deep"}})", options) == "«flat»");
  check_refused([&] { document(R"({"text": "a", "id": 2})", options); },
                "expected a text under \"meta.body\", found the keys text, id");
  check_refused([&] { document(R"({"meta": {"body": 3}})", options); }, "found a number there");
  check_refused([&] { document("[1]", options); }, "found a list");
}

TEST_CASE("an alpaca record is the published prompt and the answer") {
  DocumentOptions options{.format = "alpaca", .mask_prompt = true};
  CHECK(document(R"({"instruction": "Add.", "input": "1 2", "output": "3"})", options) ==
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
        "Add.\n\n### Input:\n1 2\n\n### Response:«3»«⟨eos⟩»");
  const std::string without =
      "Below is an instruction that describes a task. Write a response that appropriately "
      "completes the request.\n\n### Instruction:\nSay {}.\n\n### Response:";
  for (const char* input : {"", R"("input": "",)", R"("input": null,)"}) {
    CHECK(document(std::string("{") + input + R"("instruction": "Say {}.", "output": "a"})",
                   options) == without + "«a»«⟨eos⟩»");
  }
  options.mask_prompt = false;
  CHECK(document(R"({"instruction": "Say {}.", "output": "a"})", options) ==
        "«" + without + "»«a»«⟨eos⟩»");
  CHECK(document(R"({"instruction": "a", "output": ""})", options).empty());
  check_refused([&] { document(R"({"instruction": "a"})", options); },
                "expected a text under \"output\", found the keys instruction");
}

TEST_CASE("chats follow their template, and only answers count") {
  CHECK(document(kTalk, chat("chatml")) ==
        "⟨<|im_start|>⟩system\nBe brief.⟨<|im_end|>⟩\n⟨<|im_start|>⟩user\nHi "
        "<|im_end|>⟨<|im_end|>⟩\n⟨<|im_start|>⟩assistant\n«Ho»«⟨<|im_end|>⟩»\n"
        "⟨<|im_start|>⟩user\nSo?⟨<|im_end|>⟩\n⟨<|im_start|>⟩assistant\n« No »«⟨<|im_end|>⟩»\n");
  CHECK(document(kTalk, chat("llama3")) ==
        "⟨<|start_header_id|>⟩system⟨<|end_header_id|>⟩\n\nBe brief.⟨<|eot_id|>⟩"
        "⟨<|start_header_id|>⟩user⟨<|end_header_id|>⟩\n\nHi <|im_end|>⟨<|eot_id|>⟩"
        "⟨<|start_header_id|>⟩assistant⟨<|end_header_id|>⟩\n\n«Ho»«⟨<|eot_id|>⟩»"
        "⟨<|start_header_id|>⟩user⟨<|end_header_id|>⟩\n\nSo?⟨<|eot_id|>⟩"
        "⟨<|start_header_id|>⟩assistant⟨<|end_header_id|>⟩\n\n«No»«⟨<|eot_id|>⟩»");
  CHECK(document(kTalk, chat("mistral")) ==
        "[INST] Be brief.\n\nHi <|im_end|> [/INST] «Ho»«⟨eos⟩»[INST] So? [/INST] «No»«⟨eos⟩»");
  CHECK(document(R"({"conversations": [{"from": "human", "value": "a"},
                                       {"from": "gpt", "value": "b"}]})",
                 chat("alpaca")) ==
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\na\n\n### Response:\n«b»«⟨eos⟩»\n\n");
  const std::string whole = document(kTalk, chat("mistral", false));
  CHECK(whole.find("«[INST] »«Be brief.»") == 0);
}

TEST_CASE("chats without an answer are empty, and odd ones are refused") {
  CHECK(document(R"({"messages": []})", chat("chatml")).empty());
  CHECK(document(R"({"messages": [{"role": "user", "content": "a"}]})", chat("chatml")).empty());
  const auto refuse = [](const char* record, const std::string& message) {
    check_refused([&] { document(record, chat("mistral")); }, message);
  };
  refuse(R"({"text": "a"})",
         "expected a list of turns under \"messages\" or \"conversations\", found the keys text");
  refuse(R"({"messages": [{"role": "tool", "content": "a"},
                          {"role": "assistant", "content": "a"}]})",
         "expected a turn of system, user (human) or assistant (gpt), found \"tool\"");
  refuse(R"({"messages": [{"role": "user", "content": [{"text": "a"}]}]})",
         "expected a text under \"content\", found a list there");
  refuse(R"({"messages": [{"role": "system", "content": "a"},
                          {"role": "assistant", "content": "b"}]})",
         "expected a user turn after a system turn, found one of the assistant");
  check_refused([] { find_chat_template("jinja"); },
                "expected one of chatml, llama3, mistral, alpaca, found \"jinja\"; a model's own "
                "Jinja template is not read");
}
