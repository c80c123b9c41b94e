// The terminal that stderr may be.
#pragma once

namespace tigon {

struct TerminalSize {
  int columns = 80, rows = 24;
};

/// Whether stderr is a terminal (and no file or pipe).
bool stderr_is_terminal();
/// Of stderr's terminal; 80 × 24 where it does not say.
TerminalSize terminal_size();

}  // namespace tigon
