// SIGINT and SIGTERM as a flag that long work polls, so that it can save before it exits.
#pragma once

namespace tigon {

/// Installs the handlers. A second signal ends the process at once.
void watch_for_interrupts();
/// The signal that arrived (SIGINT or SIGTERM), or 0.
int pending_interrupt();
/// Lets a write beyond the file size limit fail with an error code, as a full disk does, instead of
/// ending the process (SIGXFSZ). A handler somebody else installed stays.
void ignore_file_size_signal();

}  // namespace tigon
