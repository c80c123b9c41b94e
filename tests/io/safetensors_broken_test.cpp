// Hostile files: each is refused with a message, and none reads outside its bytes (the sanitizer
// build watches).
#include <string>

#include "core/error.h"
#include "core/random.h"
#include "io/safetensors.h"
#include "support/catch.h"
#include "support/refusal.h"
#include "support/safetensors_bytes.h"
#include "support/temporary_folder.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

void check_bytes_refused(const std::string& bytes, const std::string& message) {
  check_refused<Error>([&] { SafetensorsFile(as_bytes(bytes), "x"); }, "x: " + message);
}

void check_header_refused(const std::string& header, const std::string& message) {
  check_bytes_refused(safetensors_bytes(header, std::string(16, '\0')), message);
}

/// A header of one tensor "w" with these fields, before 16 bytes of data.
void check_tensor_refused(const std::string& dtype, const std::string& shape,
                          const std::string& offsets, const std::string& message) {
  check_header_refused(
      "{\"w\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}",
      "tensor w: " + message);
}

}  // namespace

TEST_CASE("safetensors: truncated, oversized and lying header lengths") {
  check_bytes_refused("", "expected at least 8 bytes (the header's length), found 0");
  check_bytes_refused("1234567", "expected at least 8 bytes (the header's length), found 7");
  check_bytes_refused(safetensors_bytes("{}", "", 100'000'001),
                      "expected a header of at most 100000000 bytes, found a length of 100000001");
  check_bytes_refused(std::string(8, '\xff'), "expected a header of at most 100000000 bytes");
  check_bytes_refused(safetensors_bytes("{}", "", 3),
                      "expected a header of 3 bytes, found 2 bytes in the file");
  check_bytes_refused(safetensors_bytes("{}", "", 1), "the header is not valid JSON");
  check_bytes_refused(safetensors_bytes("", ""), "expected a header that starts with '{'");
}

TEST_CASE("safetensors: files that are something else") {
  check_bytes_refused(std::string("PK\x03\x04") + std::string(100, '\0'), "expected ");
  check_bytes_refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                      "expected a header of at most");
}

TEST_CASE("safetensors: a file cut anywhere is refused") {
  const std::string bytes =
      safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}})",
                        std::string(12, '\0'));
  CHECK_NOTHROW(SafetensorsFile(as_bytes(bytes), "x"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string cut = bytes.substr(0, size);
    INFO("cut to " << size << " bytes");
    CHECK_THROWS_AS(SafetensorsFile(as_bytes(cut), "x"), Error);
  }
}

TEST_CASE("safetensors: headers of another form") {
  check_header_refused("[]", "expected a header that starts with '{'");
  check_header_refused(" {}", "expected a header that starts with '{'");
  check_header_refused("{\"w\":", "the header is not valid JSON");
  check_header_refused("{} {}", "the header is not valid JSON");
  check_header_refused("{\"w\xff\":{}}", "the header is not valid JSON");
  check_header_refused(R"({"w":null})", "header key \"w\": expected an object, found null");
  check_header_refused(R"({"w":[]})", "header key \"w\": expected an object, found a list");
  check_header_refused(R"({"w":"F32"})", "header key \"w\": expected an object, found \"F32\"");
  check_header_refused(R"({"w":{}})", "tensor w has no \"dtype\" in the header");
  check_header_refused(R"({"w":{"dtype":"F32","shape":[]}})",
                       "tensor w has no \"data_offsets\" in the header");
  check_header_refused(R"({"w":{"type":"F32"}})", "tensor w: unknown key \"type\" in the header");
  check_header_refused(R"({"w":{"dtype":"F32","dtype":"F16"}})",
                       "\"dtype\" appears twice in the header");
  const std::string tensor = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  check_header_refused("{" + tensor + "," + tensor + "}", "\"w\" appears twice in the header");
  check_header_refused(R"({"__metadata__":{"a":1}})", "metadata \"a\": expected text, found 1");
  check_header_refused(R"({"__metadata__":{"a":{}}})",
                       "metadata \"a\": expected text, found an object");
  check_header_refused(R"({"__metadata__":{"a":"1","a":"2"}})", "\"a\" appears twice");
  check_header_refused(R"({"__metadata__":{},"__metadata__":{}})",
                       "\"__metadata__\" appears twice");
}

TEST_CASE("safetensors: deep nesting ends at the first level too many") {
  std::string header = "{\"w\":{\"shape\":";
  for (int level = 0; level < 1'000'000; ++level) header += '[';
  check_header_refused(header, "tensor w: \"shape\": expected integers ≥ 0, found a list");
  header = "{\"w\":";
  for (int level = 0; level < 100'000; ++level) header += "{\"shape\":";
  check_header_refused(header, "tensor w: \"shape\": expected a list of integers, found an object");
}

TEST_CASE("safetensors: element types that tigon does not read") {
  check_tensor_refused("\"F8_E4M3\"", "[16]", "[0,16]",
                       "element type \"F8_E4M3\" is not supported (F64, F32,");
  check_tensor_refused("\"\"", "[16]", "[0,16]", "element type \"\" is not supported");
  check_tensor_refused("4", "[16]", "[0,16]", "\"dtype\": expected a name, found 4");
  check_tensor_refused("[\"F32\"]", "[4]", "[0,16]", "\"dtype\": expected a name, found a list");
}

TEST_CASE("safetensors: impossible shapes") {
  check_tensor_refused("\"F32\"", "[-4]", "[0,16]", "\"shape\": expected integers ≥ 0, found -4");
  check_tensor_refused("\"F32\"", "[4.0]", "[0,16]", "\"shape\": expected integers ≥ 0, found 4.0");
  check_tensor_refused("\"F32\"", "4", "[0,16]", "\"shape\": expected a list of integers, found 4");
  check_tensor_refused("\"F32\"", "[5]", "[0,16]", "F32 [5] needs 20 bytes, found 16");
  check_tensor_refused("\"F32\"", "[]", "[0,16]", "F32 [] needs 4 bytes, found 16");
  check_tensor_refused("\"F32\"", "[0]", "[0,16]", "F32 [0] needs 0 bytes, found 16");
  // Products that come back to 16 or 0 modulo 2^64.
  check_tensor_refused("\"F32\"", "[4294967296,4294967296]", "[0,16]",
                       "shape [4294967296, 4294967296] is impossibly large");
  check_tensor_refused("\"F32\"", "[4611686018427387905]", "[0,4]",
                       "shape [4611686018427387905] is impossibly large");
  check_tensor_refused("\"U8\"", "[18446744073709551615]", "[0,16]",
                       "shape [18446744073709551615] is impossibly large");
  check_tensor_refused("\"U8\"", "[18446744073709551616]", "[0,16]",
                       "\"shape\": expected integers ≥ 0, found 18446744073709551616");
  check_header_refused(
      R"({"w":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
      "w has more than 16 dimensions");
}

TEST_CASE("safetensors: offsets outside the file, backwards or of another form") {
  check_tensor_refused("\"F32\"", "[4]", "[8,24]",
                       "expected its bytes inside the 16 bytes of data, found 8 to 24");
  check_tensor_refused("\"F32\"", "[4]", "[16,0]",
                       "expected its bytes inside the 16 bytes of data, found 16 to 0");
  check_tensor_refused("\"F32\"", "[4]", "[18446744073709551600,0]", "expected its bytes inside");
  check_tensor_refused("\"F32\"", "[4]", "[-1,15]",
                       "\"data_offsets\": expected two integers ≥ 0, found -1");
  check_tensor_refused("\"F32\"", "[4]", "[0]",
                       "\"data_offsets\": expected two integers ≥ 0, found a list of 1");
  check_tensor_refused("\"F32\"", "[4]", "[0,16,16]",
                       "\"data_offsets\": expected two integers ≥ 0, found a third offset");
}

TEST_CASE("safetensors: overlaps, holes and bytes that no tensor owns") {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}";
  };
  CHECK_NOTHROW(SafetensorsFile(
      as_bytes(safetensors_bytes(two("[8,16]", "[0,8]"), std::string(16, '\0'))), "x"));
  check_header_refused(two("[0,8]", "[4,12]"),
                       "tensor b: expected its bytes to start at 8, found 4: the header describes "
                       "overlapping tensors");
  check_header_refused(two("[0,8]", "[0,8]"),
                       "tensor b: expected its bytes to start at 8, found 0");
  check_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                       "tensor a: expected its bytes to start at 0, found 8: the header describes "
                       "a hole between tensors");
  check_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                       "the header describes 8 bytes of data, found 16");
}

TEST_CASE("safetensors: a broken file on the disk is named by its path") {
  const TemporaryFolder folder;
  check_refused<Error>([&] { SafetensorsFile(folder / "absent.safetensors"); },
                       "absent.safetensors: No such file");
  const auto path = folder.write("x.safetensors", "short");
  check_refused<Error>([&] { SafetensorsFile{path}; }, path.string() + ": expected at least 8");
}

TEST_CASE("safetensors: ten thousand damaged files either read or are refused") {
  const std::string good =
      safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                        R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}})",
                        std::string(12, '\0'));
  Random random(1);
  int refused = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = good;
    for (uint64_t change = 0; change <= random.below(3); ++change) {
      bytes[random.below(bytes.size())] = "0123456789{}[]\",:-"[random.below(18)];
    }
    try {
      const SafetensorsFile file(as_bytes(bytes), "x");
      for (const auto& [name, view] : file.tensors()) {
        const auto offset = view.data - as_bytes(bytes).data();
        REQUIRE(offset >= 0);
        REQUIRE(static_cast<size_t>(offset) + view.bytes <= bytes.size());
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 5000);
}
