// Self-contained HTML pages: style, Chart.js, data and scripts in one file.
#pragma once
#include <string>
#include <string_view>

#include "io/json_file.h"

namespace tigon {

/// What one page adds to what all share.
struct PageParts {
  std::string title;        // plain text
  std::string_view page;    // HTML with @TITLE@, @STYLE@, @DATA@, @CHART@, @COMMON@ and @SCRIPT@
  Json data;                // what its script reads
  std::string_view script;  // runs after page.js (numbers, elements, charts)
};

/// The page filled in. Nothing in it is loaded from elsewhere, and text in `data` cannot become
/// markup.
std::string html_page(const PageParts& parts);

/// Text as it may stand in HTML.
std::string escape_html(const std::string& text);

}  // namespace tigon
