// TensorBoard event files: TFRecords of Event messages, encoded here (a dozen fields of protobuf).
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace tigon {

/// One event file for scalars. Records are appended and flushed; a broken last record (a killed
/// run) is what TensorBoard expects of a file that is being written.
class TensorBoardEvents {
 public:
  /// Creates FOLDER/events.out.tfevents.TIME.HOST.PID and tells TensorBoard to drop what older
  /// files of the folder hold from `first_step` on (a resumed run does those steps again).
  TensorBoardEvents(const std::filesystem::path& folder, int64_t first_step);

  void scalar(std::string_view tag, int64_t step, float value);
  /// Throws Error if something could not be written (a full disk).
  void flush();

 private:
  void write_record(const std::string& event);
  std::filesystem::path path_;
  std::ofstream file_;
};

/// CRC-32C (Castagnoli) of bytes, and the masked form TFRecords store.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace tigon
