#include "train/tensorboard_events.h"

#include "io/json_file.h"
#include "support/catch.h"
#include "support/child_process.h"

using namespace tigon;
using namespace tigon::testing;

namespace {

// Reads TFRecords and the few protobuf fields of an Event with nothing but Python's own library;
// the checksum is computed bit by bit.
constexpr const char* kReader = R"(
import json, struct, sys

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at

def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from('<d', data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from('<f', data, at)[0], at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        yield key >> 3, value

data, at, events = open(sys.argv[1], 'rb').read(), 0, []
while at < len(data):
    header = data[at:at + 8]
    size = struct.unpack('<Q', header)[0]
    assert struct.unpack_from('<I', data, at + 8)[0] == masked(header)
    record = data[at + 12:at + 12 + size]
    assert struct.unpack_from('<I', data, at + 12 + size)[0] == masked(record)
    at += 16 + size
    event = dict(fields(record))
    shown = {'step': event.get(2, 0), 'is_recent': event[1] > 1.6e9}
    if 3 in event:
        shown['version'] = event[3].decode()
    if 5 in event:
        value = dict(fields(dict(fields(event[5]))[1]))
        shown['tag'], shown['value'] = value[1].decode(), value[2]
    if 7 in event:
        shown['session'] = dict(fields(event[7]))[1]
    events.append(shown)
print(json.dumps(events))
)";

std::filesystem::path only_file(const std::filesystem::path& folder) {
  return std::filesystem::directory_iterator(folder)->path();
}

}  // namespace

TEST_CASE("crc32c has its published check value", "[events]") {
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc32c("") == 0);
}

TEST_CASE("events are read back by an independent reader", "[events]") {
  const TemporaryFolder folder;
  {
    TensorBoardEvents events(folder.path(), 7);
    events.scalar("train/loss", 7, 3.25f);
    events.scalar("validation/loss", 300, -0.5f);  // a step of two varint bytes
    events.flush();
  }
  const auto file = only_file(folder.path());
  CHECK(file.filename().string().starts_with("events.out.tfevents."));
  const ChildResult result = run_program({"python3", "-c", kReader, file.string()});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  const Json events = Json::parse(result.standard_output);
  REQUIRE(events.size() == 4);
  CHECK(events[0].at("version") == "brain.Event:2");
  CHECK(events[1].at("session") == 1);
  CHECK(events[1].at("step") == 7);
  CHECK(events[2] ==
        Json({{"step", 7}, {"is_recent", true}, {"tag", "train/loss"}, {"value", 3.25}}));
  CHECK(events[3].at("step") == 300);
  CHECK(events[3].at("value") == -0.5);
}
