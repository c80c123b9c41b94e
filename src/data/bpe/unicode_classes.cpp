#include "data/bpe/unicode_classes.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace tigon {
namespace {

using Name = std::pair<std::string_view, std::string_view>;

/// Names without separators, in lower case, and PCRE2's.
constexpr std::array kNames = {Name{"letter", "L"},
                               Name{"uppercaseletter", "Lu"},
                               Name{"lowercaseletter", "Ll"},
                               Name{"titlecaseletter", "Lt"},
                               Name{"casedletter", "L&"},
                               Name{"lc", "L&"},
                               Name{"modifierletter", "Lm"},
                               Name{"otherletter", "Lo"},
                               Name{"mark", "M"},
                               Name{"combiningmark", "M"},
                               Name{"nonspacingmark", "Mn"},
                               Name{"spacingmark", "Mc"},
                               Name{"enclosingmark", "Me"},
                               Name{"number", "N"},
                               Name{"decimalnumber", "Nd"},
                               Name{"letternumber", "Nl"},
                               Name{"othernumber", "No"},
                               Name{"punctuation", "P"},
                               Name{"connectorpunctuation", "Pc"},
                               Name{"dashpunctuation", "Pd"},
                               Name{"openpunctuation", "Ps"},
                               Name{"closepunctuation", "Pe"},
                               Name{"initialpunctuation", "Pi"},
                               Name{"finalpunctuation", "Pf"},
                               Name{"otherpunctuation", "Po"},
                               Name{"symbol", "S"},
                               Name{"mathsymbol", "Sm"},
                               Name{"currencysymbol", "Sc"},
                               Name{"modifiersymbol", "Sk"},
                               Name{"othersymbol", "So"},
                               Name{"separator", "Z"},
                               Name{"spaceseparator", "Zs"},
                               Name{"lineseparator", "Zl"},
                               Name{"paragraphseparator", "Zp"},
                               Name{"other", "C"},
                               Name{"control", "Cc"},
                               Name{"cntrl", "Cc"},
                               Name{"format", "Cf"},
                               Name{"privateuse", "Co"},
                               Name{"unassigned", "Cn"},
                               Name{"any", "Any"},
                               Name{"digit", "Nd"},
                               Name{"alpha", "Alphabetic"},
                               Name{"alphabetic", "Alphabetic"},
                               Name{"lower", "Lowercase"},
                               Name{"lowercase", "Lowercase"},
                               Name{"upper", "Uppercase"},
                               Name{"uppercase", "Uppercase"},
                               Name{"space", "White_Space"},
                               Name{"whitespace", "White_Space"},
                               Name{"emoji", "Emoji"},
                               Name{"emojipresentation", "Emoji_Presentation"},
                               Name{"emojimodifier", "Emoji_Modifier"},
                               Name{"extendedpictographic", "Extended_Pictographic"},
                               Name{"ideographic", "Ideographic"},
                               Name{"unifiedideograph", "Unified_Ideograph"}};

/// POSIX classes whose members differ between the libraries, or that PCRE2 has no property for.
constexpr std::array<std::string_view, 8> kUnknown = {"alnum", "blank",  "graph", "print",
                                                      "punct", "xdigit", "word",  "ascii"};

constexpr std::string_view kCategories =
    " l lu ll lt lm lo m mn mc me n nd nl no p pc pd ps pe pi pf po s sm sc sk so z zs zl zp c cc "
    "cf co cn cs ";

}  // namespace

std::optional<std::string> pcre2_property(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    if (std::isalpha(static_cast<unsigned char>(c)) == 0) return std::nullopt;
    plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (plain.empty()) return std::nullopt;
  for (const auto& [known, translation] : kNames) {
    if (plain == known) return std::string(translation);
  }
  if (std::find(kUnknown.begin(), kUnknown.end(), plain) != kUnknown.end()) return std::nullopt;
  if (kCategories.find(" " + plain + " ") != std::string_view::npos) {
    plain[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(plain[0])));
    return plain;
  }
  // The script itself; PCRE2's plain \p{Han} also takes what is shared between scripts.
  return "sc:" + plain;
}

bool is_white_space(char32_t character) {
  return u_isUWhiteSpace(static_cast<UChar32>(character)) != 0;
}

bool is_word_character(char32_t character) {
  const auto code = static_cast<UChar32>(character);
  return u_hasBinaryProperty(code, UCHAR_ALPHABETIC) != 0 ||
         u_hasBinaryProperty(code, UCHAR_JOIN_CONTROL) != 0 ||
         (U_MASK(u_charType(code)) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

}  // namespace tigon
