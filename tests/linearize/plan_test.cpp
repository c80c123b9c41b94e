#include "linearize/plan.h"

#include <filesystem>

#include "model/state.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

std::vector<std::string> kinds(const MixerStack& stack) {
  std::vector<std::string> found;
  for (const auto& mixer : stack) found.push_back(mixer->kind());
  return found;
}

bool describes(const Mixer& mixer, const std::string& text) {
  return mixer.describe().find(text) != std::string::npos;
}

void check_plan_refused(const std::string& recipe, const std::vector<std::string>& overrides,
                        const std::string& text) {
  check_refused<UsageError>([&] { load_plan(recipe, overrides); }, text);
}

}  // namespace

TEST_CASE("recipes carry the published numbers", "[plan]") {
  const Plan liger = load_plan("liger-gla");
  CHECK(liger.recipe == "liger-gla");
  CHECK(liger.window_keys == 64);
  CHECK(liger.settings.at("gate_source") == "k");
  CHECK(liger.settings.at("gate_pool") == "none");
  CHECK(liger.settings.at("gate_normalizer") == 16);
  CHECK(liger.settings.at("mix") == 0.5);
  CHECK(liger.hybrid_every == 0);
  CHECK(liger.softmax_layers.empty());
  CHECK(load_plan("window").window_keys == 64);
  CHECK(load_plan("none").is_teacher());
  const Plan hgrn2 = load_plan("liger-hgrn2");
  CHECK(hgrn2.settings.at("gate_normalizer") == 1);
  CHECK(hgrn2.settings.at("lower_bound") == 0);
  CHECK(load_plan("liger-gsa").settings.at("slots") == 64);
  CHECK(load_plan("liger-gsa").settings.at("gate_normalizer") == 16);
  const Plan supra = load_plan("supra");
  CHECK(supra.settings.at("maps") == "across_heads");
  CHECK(supra.settings.at("normalizer") == "group_norm");
  CHECK(supra.settings.at("affine") == false);
  CHECK(supra.settings.at("norm_eps") == 1e-5);
  const Plan lolcats = load_plan("lolcats");
  CHECK(lolcats.settings.at("window_form") == "terrace");
  CHECK(lolcats.settings.at("feature_dim") == 64);
  CHECK(lolcats.settings.at("window_factor") == 0.1);
  const Plan tigon = load_plan("tigon");
  CHECK(tigon.window_keys == 64);
  CHECK(tigon.settings ==
        Json{{"decay_time", 512}, {"feature_rank", 0}, {"state_dtype", "float32"}});
}

TEST_CASE("keys of a recipe can be overridden by name", "[plan]") {
  const Plan plan =
      load_plan("liger-gla", {"window_keys=65", "mix=0.25", "gate_normalizer=8", "hybrid.every=8"});
  CHECK(plan.window_keys == 65);
  CHECK(plan.settings.at("mix") == 0.25);
  CHECK(plan.settings.at("gate_normalizer") == 8);
  CHECK(plan.hybrid_every == 8);
  CHECK(load_plan("window", {"hybrid.layers=[3, 1]"}).softmax_layers == std::vector<int64_t>{1, 3});
  const Plan wider = load_plan("tigon", {"layer_windows={7: 256, 0: 128}", "decay_time=100"});
  CHECK(wider.layer_windows == std::map<int64_t, int64_t>{{0, 128}, {7, 256}});
  CHECK(wider.settings.at("decay_time") == 100);
  CHECK(load_plan("window", {"layer_windows.3=32"}).layer_windows.at(3) == 32);
  const Plan ranks = load_plan("tigon", {"feature_rank=8", "layer_feature_ranks={3: 12}"});
  CHECK(ranks.feature_rank_of(3) == 12);
  CHECK(ranks.feature_rank_of(2) == 8);
  CHECK(load_plan("window").feature_rank_of(0) == 0);
}

TEST_CASE("a plan is read from a YAML file", "[plan]") {
  const TemporaryFolder folder;
  const auto path = folder.write("mine.yaml", "recipe: window\nwindow_keys: 128\n");
  const Plan plan = load_plan(path.string());
  CHECK(plan.recipe == "window");
  CHECK(plan.window_keys == 128);
  const auto wrong = folder.write("wrong.yaml", "recipe: window\nwindow_kys: 128\n");
  check_plan_refused(wrong.string(), {}, "line 2");
  check_plan_refused(wrong.string(), {}, "window_keys?");
}

TEST_CASE("a section without a recipe is the teacher's plan", "[plan]") {
  ConfigReader reader = ConfigReader::from_text("{}", "config");
  CHECK(read_plan(reader).is_teacher());
  reader.finish();
}

TEST_CASE("every recipe file of the project is embedded and readable", "[plan]") {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(TIGON_SOURCE_FOLDER "/configs/recipes")) {
    const std::string name = entry.path().stem().string();
    INFO(name);
    CHECK(load_plan(name) == load_plan(entry.path().string()));
    CHECK(load_plan(name).recipe == name);
    ++count;
  }
  CHECK(count == 14);
}

TEST_CASE("unknown recipes are refused with the list", "[plan]") {
  check_plan_refused("linger-gla", {}, "none, window, window-sinks, liger-gla, liger-hgrn2");
  check_plan_refused("linger-gla", {}, "found \"linger-gla\"");
  ConfigReader reader = ConfigReader::from_text("recipe: linger\nwindow_keys: 5\n", "config");
  CHECK(read_plan(reader).is_teacher());
  // One mistake, one problem: the other keys are not reported as unknown.
  check_refused<ConfigError>([&] { reader.finish(); }, "config: 1 problem");
}

TEST_CASE("values that do not exist are refused", "[plan]") {
  check_plan_refused("liger-gla", {"gate_source=q"}, "gate_source");
  check_plan_refused("liger-gla", {"gate_pool=mean"}, "gate_pool");
  check_plan_refused("liger-gla", {"mix=1.5"}, "mix");
  check_plan_refused("liger-gla", {"gate_normalizer=0"}, "gate_normalizer");
  check_plan_refused("liger-gla", {"window_keys=0"}, "window_keys");
  check_plan_refused("window", {"mix=0.5"}, "mix");
  check_plan_refused("none", {"window_keys=64"}, "window_keys");
  check_plan_refused("window", {"hybrid.every=1"}, "expected 0 (no softmax layer) or at least 2");
  check_plan_refused("window", {"hybrid.every=2", "hybrid.layers=[1]"},
                     "expected either every or layers, found both");
  check_plan_refused("window", {"hybrid.layers=[1, 1]"}, "layer 1 is listed twice");
  check_plan_refused("window", {"hybrid.layers=[-1]"}, "hybrid.layers");
  check_plan_refused("tigon", {"decay_time=0"}, "decay_time");
  check_plan_refused("tigon", {"feature_rank=-1"}, "feature_rank");
  check_plan_refused("window-sinks", {"sinks=0"}, "sinks");
  check_plan_refused("liger-mamba2", {"gate_pool=none"}, "gate_pool");
  check_plan_refused("liger-hgrn2", {"lower_bound=1"}, "lower_bound");
  check_plan_refused("liger-gsa", {"slots=0"}, "slots");
  check_plan_refused("liger-ablation", {"gate_source=x"}, "gate_source");
  check_plan_refused("liger-ablation", {"feature_map=gelu"}, "feature_map");
  check_plan_refused("supra", {"window_keys=64"}, "window_keys");
  check_plan_refused("supra", {"decay=fast"}, "decay");
  check_plan_refused("supra", {"affine=true", "normalizer=denominator"},
                     "expected false with normalizer: denominator");
  check_plan_refused("lolcats", {"window_form=round"}, "window_form");
  check_plan_refused("lolcats", {"window_factor=1"}, "window_factor");
  check_plan_refused("lolcats", {"affine_factors=maybe"}, "affine_factors");
  check_plan_refused("window", {"layer_windows.last=64"}, "expected the number of a layer");
  check_plan_refused("tigon", {"layer_feature_ranks.last=4"}, "expected the number of a layer");
  check_plan_refused("tigon", {"layer_feature_ranks.1=-1"}, "layer_feature_ranks.1");
  check_plan_refused("lolcats", {"layer_feature_ranks={}"}, "layer_feature_ranks");
  check_plan_refused("window", {"layer_windows.-1=64"}, "expected the number of a layer");
  check_plan_refused("window", {"layer_windows.1=0"}, "layer_windows.1");
  check_plan_refused("window", {"layer_windows={1: 64, 01: 32}"}, "layer 1 is listed twice");
  check_plan_refused("window", {"layer_windows=64"}, "expected a section");
}

TEST_CASE("a plan survives JSON", "[plan]") {
  for (const Plan& plan :
       {load_plan("none"), load_plan("window", {"hybrid.layers=[0]"}),
        load_plan("tigon", {"layer_windows={0: 7, 11: 300}", "hybrid.layers=[3]"}),
        load_plan("tigon", {"feature_rank=4", "layer_feature_ranks={0: 0, 11: 5}"}),
        load_plan("tigon", {"state_dtype=bfloat16"}), load_plan("window-sinks", {"sinks=9"}),
        load_plan("liger-hgrn2", {"lower_bound=0.1"}),
        load_plan("liger-gsa", {"slots=32", "hybrid.every=8"}), load_plan("liger-mamba2"),
        load_plan("liger-mlstm"), load_plan("liger-retention"), load_plan("liger-rwkv6"),
        load_plan("supra", {"affine=true", "decay=learned", "hybrid.layers=[1]"}),
        load_plan("lolcats", {"affine_factors=true", "window_factor=0.3"}),
        load_plan("liger-gla", {"mix=0.1", "gate_normalizer=3.7", "hybrid.every=3"})}) {
    CHECK(plan_from_json(plan_to_json(plan), "test") == plan);
    // Through text too: numbers keep every digit.
    CHECK(plan_from_json(Json::parse(plan_to_json(plan).dump(2)), "test") == plan);
  }
}

TEST_CASE("a broken linearize block is an error that names its source", "[plan]") {
  const auto refused = [](const Json& json, const std::string& text) {
    check_refused<Error>([&] { plan_from_json(json, "DIR/config.json linearize"); }, text);
    check_refused<Error>([&] { plan_from_json(json, "DIR/config.json linearize"); },
                         "DIR/config.json linearize");
    // Data, not usage: the program exits 1.
    CHECK_THROWS_AS(plan_from_json(json, "x"), Error);
    bool is_usage = false;
    try {
      plan_from_json(json, "x");
    } catch (const UsageError&) {
      is_usage = true;
    } catch (const Error&) {
    }
    CHECK_FALSE(is_usage);
  };
  const Json good = plan_to_json(load_plan("liger-gla"));
  refused(Json::array(), "expected an object");
  refused("liger-gla", "expected an object");
  refused(Json::object(), "recipe");
  Json json = good;
  json["recipe"] = "linger";
  refused(json, "expected a recipe");
  json = good;
  json["window_keys"] = "many";
  refused(json, "window_keys");
  json = good;
  json.erase("mix");
  refused(json, "mix");
  json = good;
  json["sinks"] = 4;
  refused(json, "sinks");
  json = good;
  json["hybrid"]["every"] = -3;
  refused(json, "every");
}

TEST_CASE("every recipe with a recurrence may keep its state in bfloat16", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/2);
  for (const std::string recipe :
       {"liger-gla", "liger-hgrn2", "liger-gsa", "liger-mamba2", "liger-mlstm", "liger-retention",
        "liger-rwkv6", "supra", "lolcats", "tigon"}) {
    INFO(recipe);
    const std::vector<std::string> slots =
        recipe == "liger-gsa" ? std::vector<std::string>{"slots=8"} : std::vector<std::string>{};
    std::vector<std::string> rounded = slots;
    rounded.push_back("state_dtype=bfloat16");
    const MixerStack wide = build_stack(load_plan(recipe, slots), config);
    const MixerStack narrow = build_stack(load_plan(recipe, rounded), config);
    CHECK_FALSE(describes(*wide[0], "bfloat16"));
    CHECK(describes(*narrow[0], "state in bfloat16"));
    CHECK(state_bytes_per_sequence(narrow, 1, at::kFloat) <
          state_bytes_per_sequence(wide, 1, at::kFloat));
    check_plan_refused(recipe, {"state_dtype=float16"}, "state_dtype");
    // Folders written before the key existed.
    Json json = plan_to_json(load_plan(recipe, slots));
    CHECK(json.at("state_dtype") == "float32");
    json.erase("state_dtype");
    CHECK(plan_from_json(json, "test") == load_plan(recipe, slots));
  }
  for (const std::string recipe : {"window", "window-sinks"}) {
    check_plan_refused(recipe, {"state_dtype=bfloat16"},
                       "state_dtype: recipe " + recipe + " has no such key, liger-gla, ");
  }
}

TEST_CASE("keys of another recipe are refused with its name", "[plan]") {
  check_plan_refused("liger-gla", {"feature_rank=2"},
                     "feature_rank: recipe liger-gla has no such key, tigon has");
  check_plan_refused("supra", {"layer_windows={1: 8}", "slots=4"},
                     "layer_windows: recipe supra has no such key");
  check_plan_refused("supra", {"layer_windows={1: 8}", "slots=4"},
                     "slots: recipe supra has no such key, liger-gsa has");
  check_plan_refused("liger-gla", {"slot=4"}, "slot: unknown key");
  CHECK(load_plan("liger-gla", {"feature_rank=null"}) == load_plan("liger-gla"));
}

TEST_CASE("hybrids keep the softmax layers a plan names", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/7);
  CHECK(kinds(build_stack(load_plan("none"), config)) == std::vector<std::string>(7, "softmax"));
  CHECK(kinds(build_stack(load_plan("window"), config)) == std::vector<std::string>(7, "window"));
  CHECK(kinds(build_stack(load_plan("liger-gla", {"hybrid.every=3"}), config)) ==
        std::vector<std::string>{"liger-gla", "liger-gla", "softmax", "liger-gla", "liger-gla",
                                 "softmax", "liger-gla"});
  CHECK(kinds(build_stack(load_plan("window", {"hybrid.layers=[0, 6]"}), config)) ==
        std::vector<std::string>{"softmax", "window", "window", "window", "window", "window",
                                 "softmax"});
}

TEST_CASE("a plan that does not fit the model is refused", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/2);
  const auto refused = [&](const std::string& override, const std::string& text) {
    check_refused<UsageError>([&] { build_stack(load_plan("window", {override}), config); }, text);
  };
  refused("hybrid.layers=[2]", "expected layers below 2, found 2");
  refused("hybrid.every=8", "expected at most the model's 2 layers, found 8");
  refused("hybrid.layers=[0, 1]", "every layer would keep softmax attention");
  refused("layer_windows.2=8", "layer_windows: expected layers below 2, found 2");
  check_refused<UsageError>(
      [&] {
        build_stack(load_plan("window", {"hybrid.layers=[1]", "layer_windows.1=8"}), config);
      },
      "layer 1 keeps softmax attention");
}

TEST_CASE("single layers may have wider windows", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/3);
  for (const std::string recipe :
       {"window", "window-sinks", "liger-gla", "liger-hgrn2", "liger-rwkv6", "tigon"}) {
    const MixerStack stack = build_stack(load_plan(recipe, {"layer_windows.1=8"}), config);
    CHECK(describes(*stack[0], "of 64 keys"));
    CHECK(describes(*stack[1], "of 8 keys"));
    CHECK(describes(*stack[2], "of 64 keys"));
  }
}

TEST_CASE("a plan with a budget still to be spent builds no stack", "[plan]") {
  const Plan plan = load_plan("tigon", {"state_bytes=2M"});
  CHECK(plan.state_bytes == 2'000'000);
  check_refused<UsageError>([&] { build_stack(plan, tiny_config(2)); }, "chosen by tigon train");
}

TEST_CASE("a recipe's settings reach its mixers", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/2);
  const auto text = [&](const std::string& recipe, const std::vector<std::string>& overrides) {
    const MixerStack stack = build_stack(load_plan(recipe, overrides), config);
    CHECK(stack[0]->kind() == (recipe == "window-sinks" ? "window" : recipe));
    return stack[0]->describe();
  };
  CHECK(text("window-sinks", {"sinks=9"}) == "window of 64 keys + 9 sinks");
  CHECK(text("liger-hgrn2", {"gate_normalizer=2", "mix=0.25", "window_keys=7"}) ==
        "window of 7 keys + gated recurrence (gate σ(k)^(1/2), mix 0.25)");
  CHECK(text("liger-gsa", {"slots=8"}) ==
        "window of 64 keys + gated recurrence (gate σ(k)^(1/16), 8 slots, mix 0.5)");
  CHECK(text("liger-mamba2", {}) ==
        "window of 64 keys + gated recurrence (gate exp(−softplus(mean k)/16), mix 0.5)");
  CHECK(text("liger-mlstm", {}) == text("liger-retention", {}));
  CHECK(text("liger-rwkv6", {}) ==
        "window of 64 keys + gated recurrence (gate exp(−exp(k)/16), mix 0.5)");
  CHECK(text("supra", {"maps=per_head", "decay=none", "normalizer=both", "affine=true"}) ==
        "linear recurrence (maps per head, no decay, denominator and norm over each head with "
        "weights)");
  CHECK(text("lolcats", {"window_form=sliding", "feature_map=t2r", "feature_dim=12"}) ==
        "window of 64 keys + linear attention (12 features of T2R, one denominator)");
  check_refused<UsageError>([&] { text("liger-gsa", {"slots=5"}); },
                            "slots: expected a number that divides the head size 16");
}

TEST_CASE("random maps depend on the seed and the layer alone", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/2);
  for (const auto& [recipe, init] :
       {std::pair("supra", "map_init=published"), {"lolcats", "map_init=kaiming"}}) {
    const auto maps = [&, recipe = recipe, init = init](const std::string& seed, int64_t layer) {
      return build_stack(load_plan(recipe, {init, seed}), config)[layer]->parameters()[0].second;
    };
    CHECK(maps("seed=1", 0).equal(maps("seed=1", 0)));
    CHECK_FALSE(maps("seed=1", 0).equal(maps("seed=1", 1)));
    CHECK_FALSE(maps("seed=1", 0).equal(maps("seed=2", 0)));
  }
}

TEST_CASE("every layer has parameters of its own", "[plan]") {
  const MixerStack stack = build_stack(load_plan("tigon"), tiny_config(/*num_layers=*/2));
  CHECK(kinds(stack) == std::vector<std::string>(2, "tigon"));
  REQUIRE(stack[0]->parameters().size() == 8);
  CHECK_FALSE(stack[0]->parameters()[0].second.is_same(stack[1]->parameters()[0].second));
}

TEST_CASE("baselines are other stacks over the same weights", "[plan]") {
  const ModelConfig config = tiny_config(/*num_layers=*/4);
  CHECK(kinds(window_only_stack(config, 64)) == std::vector<std::string>(4, "window"));
  const MixerStack stack = build_stack(load_plan("liger-gla", {"hybrid.every=4"}), config);
  CHECK(kinds(without_recurrence(stack)) ==
        std::vector<std::string>{"window", "window", "window", "softmax"});
}
