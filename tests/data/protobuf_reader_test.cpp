#include "data/protobuf_reader.h"

#include <string>

#include "support/catch.h"

using tigon::ProtobufReader;

TEST_CASE("a protobuf message is walked field by field") {
  using namespace std::string_literals;
  // 1: varint 300; 2: "hi"; 3: four bytes; 4: eight bytes
  const std::string message = "\x08\xAC\x02\x12\x02hi\x1D\x01\x02\x03\x04\x21\0\0\0\0\0\0\0\x09"s;
  ProtobufReader reader(message);
  auto field = reader.next();
  REQUIRE(field);
  CHECK((field->number == 1 && field->wire_type == 0 && field->varint == 300));
  field = reader.next();
  REQUIRE(field);
  CHECK((field->number == 2 && field->wire_type == 2 && field->bytes == "hi"));
  field = reader.next();
  REQUIRE(field);
  CHECK((field->number == 3 && field->wire_type == 5 && field->bytes == "\x01\x02\x03\x04"));
  field = reader.next();
  REQUIRE(field);
  CHECK((field->number == 4 && field->wire_type == 1 && field->bytes.size() == 8));
  CHECK_FALSE(reader.next());
  CHECK_FALSE(reader.is_malformed());
}

TEST_CASE("malformed protobuf is noticed") {
  using namespace std::string_literals;
  for (const std::string& message : {
           "\x08"s,                                            // no value
           "\x08\xFF\xFF"s,                                    // a varint without an end
           "\x12\x05hi"s,                                      // fewer bytes than announced
           "\x12\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01hi"s,  // a length beyond everything
           "\x1D\x01\x02"s,                                    // two of four bytes
           "\x0B\x0C"s,                                        // a group
           "\x00\x01"s,                                        // field 0
           "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"s,    // a varint of more than 64 bits
       }) {
    ProtobufReader reader(message);
    while (reader.next()) {
    }
    CHECK(reader.is_malformed());
  }
}
