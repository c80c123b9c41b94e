#include "core/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace tigon {

bool stderr_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

TerminalSize terminal_size() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
  TerminalSize result{.columns = size.ws_col};
  if (size.ws_row > 0) result.rows = size.ws_row;
  return result;
}

}  // namespace tigon
